"""Isolate user code from process state: global generators and torch's modes.

Learners and models should be functions of a state and an episode. But some learners and models draw
from a global generator or change one of torch's modes. To make their results repeatable, the
generators are seeded for each episode. Afterwards, the generators and torch's modes are restored.
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

from metafleet.params import MetaState, flatten_state
from metafleet.purity.generators import NUMPY_SEEDS, Generators
from metafleet.seeds import CounterRng


def _repeatability() -> tuple[bool, bool]:
    torch_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    return torch.are_deterministic_algorithms_enabled(), torch_warns


_MODES: Final[tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...]] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (_repeatability, lambda v: torch.use_deterministic_algorithms(v[0], warn_only=v[1])),
)
"""Functions to read and to write each of torch's modes that affect results."""


@contextmanager
def kept_as_it_is(device: str = "cpu") -> Iterator[None]:
    """Restore the global generators of Python, NumPy and torch, and torch's modes, after the block.

    Inside the block, seed the generators with ``seed_generators``.
    """
    with _modes_kept(), Generators([device]).kept():
        yield


@contextmanager
def _modes_kept() -> Iterator[None]:
    """Restore torch's modes after the block."""
    before = [read() for read, _ in _MODES]
    try:
        yield
    finally:
        for (read, write), value in zip(_MODES, before, strict=True):
            if read() != value:
                write(value)
        torch.set_flush_denormal(False)  # cannot be read; off is the default of a process


def seed_generators(rng: CounterRng, device: str = "cpu") -> None:
    """Seed the global generators of Python, NumPy and torch with numbers that ``rng`` draws."""
    python, numpy = rng.torch_seed(), rng.integer(NUMPY_SEEDS)
    Generators([device]).seed(rng.torch_seed(), numpy=numpy, python=python)


def checksum(state: MetaState) -> int:
    """Return a checksum that almost certainly changes if a tensor on the CPU is written to.

    The checksum reads the state once, at a rate of at least 1 GB per second. Tensors on other
    devices are ignored, because code on other devices works on a copy of the state.
    """
    found = 0
    for tensor in flatten_state(state).values():
        if tensor.device.type == "cpu":
            values = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            found = zlib.crc32(values.numpy().data, found)
    return found
