"""The global random generators of a process: torch's, NumPy's and Python's.

User code may draw from these generators. If a computation is repeated, it must draw the same
numbers again.
"""

import ctypes
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.random import mtrand
from torch import Tensor

NUMPY_SEEDS: Final = 1 << 32
_OURS: Final = np.random.MT19937(0)
_MT19937_BYTES: Final = 4 * 624 + 4
"""Size of the state of NumPy's default generator: 624 words, and a count of the used ones."""


class GeneratorStates(NamedTuple):
    """States of all global generators at one time.

    Attributes:
        cpu: state of torch's CPU generator.
        devices: states of torch's generators on other devices, in order.
        numpy: state of NumPy's generator.
        numpy_bytes: the state of NumPy's generator as raw memory, which is fast to compare.
        python: state of Python's ``random``.
    """

    cpu: Tensor
    devices: tuple[Tensor, ...]
    numpy: dict[str, Any]
    numpy_bytes: bytes
    python: tuple[Any, ...]


class Generators:
    """The global generators that a computation on some devices can draw from.

    Args:
        devices: torch devices; the CPU is always included.
    """

    def __init__(self, devices: Iterable[torch.device | str] = ()) -> None:
        found = {torch.device(device) for device in devices}
        self._devices = sorted((d for d in found if d.type in _DRAWING), key=str)

    def capture(self) -> GeneratorStates:
        """Return the current states."""
        return GeneratorStates(
            torch.default_generator.get_state(),
            tuple(torch.get_device_module(d).get_rng_state(d) for d in self._devices),
            np.random.get_state(legacy=False),
            _numpy_bytes(),
            random.getstate(),
        )

    def restore(self, states: GeneratorStates) -> None:
        """Restore the states that ``capture`` returned."""
        torch.default_generator.set_state(states.cpu)
        for device, state in zip(self._devices, states.devices, strict=True):
            torch.get_device_module(device).set_rng_state(state, device)
        if self._numpy_drew(states):  # setting the state takes longer than a small layer
            np.random.set_state(states.numpy)
        random.setstate(states.python)

    def drew(self, states: GeneratorStates) -> str:
        """Return the library that drew since ``states`` were captured; "" if none did."""
        moved = not torch.equal(states.cpu, torch.default_generator.get_state())
        for device, state in zip(self._devices, states.devices, strict=True):
            now = torch.get_device_module(device).get_rng_state(device)
            moved = moved or not torch.equal(state, now)
        if moved:
            return "torch"
        if self._numpy_drew(states):
            return "NumPy"
        return "" if random.getstate() == states.python else "Python's random"

    def seed(self, seed: int, *, numpy: int | None = None, python: int | None = None) -> None:
        """Seed all generators.

        Args:
            seed: seed for torch, as in ``torch.manual_seed``; 0 <= seed < 2**64.
            numpy: seed for NumPy, 0 <= numpy < 2**32. None derives this seed from ``seed``.
            python: seed for Python's ``random``; None to use ``seed``.
        """
        torch.default_generator.manual_seed(seed)
        for device in self._devices:
            with torch.get_device_module(device).device(device):
                torch.get_device_module(device).manual_seed(seed)
        np.random.seed(seed % NUMPY_SEEDS if numpy is None else numpy)
        random.seed(seed if python is None else python)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Restore all generators after the block; inside, NumPy has another generator object."""
        theirs: Any = mtrand.get_bit_generator()
        before = self.capture()
        mtrand.set_bit_generator(_OURS)  # setting the state of the original takes 0.1 ms
        try:
            yield
        finally:
            np.random.seed(0)  # discards a cached normal number
            mtrand.set_bit_generator(theirs)
            self.restore(before)

    def _numpy_drew(self, states: GeneratorStates) -> bool:
        # drawing a cached normal number does not change the raw state
        if states.numpy_bytes and not states.numpy["has_gauss"]:
            return _numpy_bytes() != states.numpy_bytes
        now: Any = np.random.get_state(legacy=False)
        return not _same(now, states.numpy)


_DRAWING: Final = ("cuda", "xpu", "mps")
"""Types of devices with a separate generator."""


def _numpy_bytes() -> bytes:
    """Return the state of NumPy's generator as raw memory; empty if it is not an MT19937."""
    if not _IS_READABLE:
        return b""
    generator: Any = np.random.get_bit_generator()  # type: ignore[attr-defined]  # but public
    return _bytes_of(generator) if type(generator) is np.random.MT19937 else b""


def _bytes_of(generator: Any) -> bytes:
    return ctypes.string_at(generator.ctypes.state_address, _MT19937_BYTES)


def _is_readable() -> bool:
    """Return whether ``_bytes_of`` reads memory that changes with each draw, and only then."""
    generator = np.random.MT19937(1)
    before = [_bytes_of(generator) for _ in range(2)]
    generator.random_raw()
    first = _bytes_of(generator)
    generator.random_raw()
    return before[0] == before[1] and len({before[0], first, _bytes_of(generator)}) == 3


_IS_READABLE: Final = _is_readable()


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(v, other[k]) for k, v in one.items())
    return bool(np.array_equal(one, other))
