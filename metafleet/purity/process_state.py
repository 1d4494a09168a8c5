"""What code of the user may find changed in its process, and change: generators and torch's modes.

Learners and models are functions of a state and an episode. Many that are not, because they draw
from a global generator or change one of torch's modes, become so here: generators are seeded for
each episode, and all is given back as it was.
"""

import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from numpy.random import mtrand

from metafleet.params import MetaState, flatten_state
from metafleet.seeds import CounterRng

_NUMPY_SEEDS: Final = 2**32
_OURS: Final = np.random.MT19937(0)


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
"""How to read and to write each of torch's modes that change what code computes."""


@contextmanager
def kept_as_it_is(device: str = "cpu") -> Iterator[None]:
    """Give Python's, NumPy's and torch's global generators and torch's modes back as they were.

    Seed the generators inside, with ``seed_generators``.
    """
    is_cuda = torch.device(device).type == "cuda"
    python, tensors = random.getstate(), torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state(device) if is_cuda else None
    try:
        with _modes_kept(), _numpy_kept():
            yield
    finally:
        random.setstate(python)
        torch.set_rng_state(tensors)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)


@contextmanager
def _numpy_kept() -> Iterator[None]:
    """Have NumPy's global generator draw from ours: setting its state takes 0.1 ms."""
    theirs = mtrand.get_bit_generator()
    state = np.random.get_state(legacy=False)
    mtrand.set_bit_generator(_OURS)
    try:
        yield
    finally:
        np.random.seed(0)  # forgets half of a pair of normal numbers
        mtrand.set_bit_generator(theirs)
        if state["has_gauss"]:  # such a half was left from before
            np.random.set_state(state)


@contextmanager
def _modes_kept() -> Iterator[None]:
    """Give torch's modes back."""
    before = [read() for read, _ in _MODES]
    try:
        yield
    finally:
        for (read, write), value in zip(_MODES, before, strict=True):
            if read() != value:
                write(value)
        torch.set_flush_denormal(False)  # cannot be asked for; off is what a process begins with


def seed_generators(rng: CounterRng, device: str = "cpu") -> None:
    """Seed Python's, NumPy's and torch's global generators with what ``rng`` draws."""
    random.seed(rng.torch_seed())
    np.random.seed(rng.integer(_NUMPY_SEEDS))
    seed = rng.torch_seed()
    torch.default_generator.manual_seed(seed)
    if torch.device(device).type == "cuda":
        torch.cuda.manual_seed(seed)


def checksum(state: MetaState) -> int:
    """Return a number that all but certainly changes when a tensor on the CPU is written to.

    It reads the state once, at a GB or more a second. Of tensors elsewhere it sees nothing: what
    works on a GPU works on a copy of the state.
    """
    found = 0
    for tensor in flatten_state(state).values():
        if tensor.device.type == "cpu":
            values = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            found = zlib.crc32(values.numpy().data, found)
    return found
