"""Tells a model how it is executed, so that it can choose memory layouts and fused operations.

These choices change at most the last bits of a result.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_is_mapping: ContextVar[bool] = ContextVar("is_mapping", default=False)
_is_tracing: ContextVar[bool] = ContextVar("is_tracing", default=False)


@contextmanager
def mapping() -> Iterator[None]:
    """Make ``is_mapped`` return True inside the block."""
    with _set(_is_mapping):
        yield


@contextmanager
def tracing() -> Iterator[None]:
    """Make ``is_being_compiled`` return True inside the block."""
    with _set(_is_tracing):
        yield


def is_mapped() -> bool:
    """Return whether ``vmap`` runs over episodes, so that tensor layouts cannot be chosen."""
    return _is_mapping.get()


def is_being_compiled() -> bool:
    """Return whether the computation is being traced for a compiler, which fuses operations."""
    return _is_tracing.get() or torch.compiler.is_compiling()


@contextmanager
def _set(flag: ContextVar[bool]) -> Iterator[None]:
    token = flag.set(True)
    try:
        yield
    finally:
        flag.reset(token)
