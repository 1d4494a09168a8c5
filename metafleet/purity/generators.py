"""The global random generators of a process: torch's, NumPy's and Python's.

A user's code draws from them, and a computation that is done twice must draw the same twice.
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
"""Of NumPy's default generator: 624 words, and how many of them are used up."""


class GeneratorStates(NamedTuple):
    """States of all global generators at one time.

    Attributes:
        cpu: torch's.
        devices: torch's of other devices, in order.
        numpy: NumPy's.
        numpy_bytes: the same as raw memory; quick to compare.
        python: that of ``random``.
    """

    cpu: Tensor
    devices: tuple[Tensor, ...]
    numpy: dict[str, Any]
    numpy_bytes: bytes
    python: tuple[Any, ...]


class Generators:
    """The global generators that a computation on some devices can draw from.

    Args:
        devices: torch devices besides the CPU; the CPU among them is ignored.
    """

    def __init__(self, devices: Iterable[torch.device | str] = ()) -> None:
        found = {torch.device(device) for device in devices}
        self._devices = sorted((d for d in found if d.type in _DRAWING), key=str)

    def capture(self) -> GeneratorStates:
        """Return the states as they are."""
        return GeneratorStates(
            torch.default_generator.get_state(),
            tuple(torch.get_device_module(d).get_rng_state(d) for d in self._devices),
            np.random.get_state(legacy=False),
            _numpy_bytes(),
            random.getstate(),
        )

    def restore(self, states: GeneratorStates) -> None:
        """Set the states to what ``capture`` returned."""
        torch.default_generator.set_state(states.cpu)
        for device, state in zip(self._devices, states.devices, strict=True):
            torch.get_device_module(device).set_rng_state(state, device)
        if self._numpy_drew(states):  # setting it takes longer than a small layer
            np.random.set_state(states.numpy)
        random.setstate(states.python)

    def drew(self, states: GeneratorStates) -> str:
        """Name the library that drew since ``states`` were captured; "" where none did."""
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
        """Seed all of them.

        Args:
            seed: 0 <= seed < 2**64; for torch, as ``torch.manual_seed`` takes it.
            numpy: for NumPy, 0 <= numpy < 2**32; made of ``seed`` where None.
            python: for ``random``; ``seed`` where None.
        """
        torch.default_generator.manual_seed(seed)
        for device in self._devices:
            with torch.get_device_module(device).device(device):
                torch.get_device_module(device).manual_seed(seed)
        np.random.seed(seed % NUMPY_SEEDS if numpy is None else numpy)
        random.seed(seed if python is None else python)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Give all of them back as they were before the block; NumPy's is one of ours inside."""
        theirs: Any = mtrand.get_bit_generator()
        before = self.capture()
        mtrand.set_bit_generator(_OURS)  # setting the state of theirs takes 0.1 ms
        try:
            yield
        finally:
            np.random.seed(0)  # forgets half of a pair of normal numbers
            mtrand.set_bit_generator(theirs)
            self.restore(before)

    def _numpy_drew(self, states: GeneratorStates) -> bool:
        # a normal number may be left over from the last draw; giving it away moves nothing else
        if states.numpy_bytes and not states.numpy["has_gauss"]:
            return _numpy_bytes() != states.numpy_bytes
        now: Any = np.random.get_state(legacy=False)
        return not _same(now, states.numpy)


_DRAWING: Final = ("cuda", "xpu", "mps")
"""Types of devices with a generator of their own."""


def _numpy_bytes() -> bytes:
    """Return the state of NumPy's generator as raw memory; empty where it is another one."""
    if not _IS_READABLE:
        return b""
    generator: Any = np.random.get_bit_generator()  # type: ignore[attr-defined]  # but public
    return _bytes_of(generator) if type(generator) is np.random.MT19937 else b""


def _bytes_of(generator: Any) -> bytes:
    return ctypes.string_at(generator.ctypes.state_address, _MT19937_BYTES)


def _is_readable() -> bool:
    """Return whether a draw shows in the memory that is looked at."""
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
