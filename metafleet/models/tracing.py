"""What models may know of how they are executed: layouts and fused steps are worth it only here.

Both change the last bits of a result at most.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_is_mapping: ContextVar[bool] = ContextVar("is_mapping", default=False)
_is_tracing: ContextVar[bool] = ContextVar("is_tracing", default=False)


@contextmanager
def mapping() -> Iterator[None]:
    """Have ``is_mapped`` say so inside the block."""
    with _set(_is_mapping):
        yield


@contextmanager
def tracing() -> Iterator[None]:
    """Have ``is_being_compiled`` say so inside the block."""
    with _set(_is_tracing):
        yield


def is_mapped() -> bool:
    """Tell whether a tensor stands for those of many episodes, so that its layout is not ours."""
    return _is_mapping.get()


def is_being_compiled() -> bool:
    """Tell whether what is computed now is only written down for a compiler, which fuses."""
    return _is_tracing.get() or torch.compiler.is_compiling()


@contextmanager
def _set(flag: ContextVar[bool]) -> Iterator[None]:
    token = flag.set(True)
    try:
        yield
    finally:
        flag.reset(token)
