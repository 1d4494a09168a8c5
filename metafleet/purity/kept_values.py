"""Keep tensors, generators, small containers and numbers, and restore them later.

``keep`` copies a value of a known type if the value can change in place. It keeps a value of an
unknown type by reference. Restoring a value that was kept by reference gives the same object, and
does not undo changes to the object.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from math import isnan
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy

_LARGEST: Final = 1000
"""Largest container that is copied; a container with more items is data rather than state."""
_DEEPEST: Final = 4
"""Deepest nesting of containers that is copied."""
_BY_ROWS: Final = (torch.sparse_csr, torch.sparse_bsr)
_COMPRESSED: Final = (*_BY_ROWS, torch.sparse_csc, torch.sparse_bsc)

Path = tuple[Any, ...]
"""Location of a tensor: names, then keys within containers."""
Clones = dict[int, tuple[Tensor, Tensor]]
"""id of a tensor -> the tensor, and a copy of its value."""


class Kept:
    """An object that may change in place, with its kept value."""

    def put_back(self, path: Path, instead: Mapping[Path, Tensor]) -> Any:
        """Restore the object's value, and return the object.

        Args:
            path: location of the object.
            instead: path -> tensor that replaces the kept tensor.
        """
        raise NotImplementedError


class _KeptTensor(Kept):
    def __init__(self, tensor: Tensor, clone: Tensor) -> None:
        self.tensor, self.clone = tensor, clone

    def put_back(self, path: Path, instead: Mapping[Path, Tensor]) -> Tensor:
        if path in instead:
            return instead[path]
        if not is_same_tensor(self.tensor, self.clone):
            with torch.no_grad():
                is_resized = _is_dense(self.tensor) and self.tensor.shape != self.clone.shape
                if is_resized or self.tensor.layout == torch.sparse_coo:
                    self.tensor.data = self.clone.clone()
                else:
                    now = self.tensor.detach()
                    if now.layout in _COMPRESSED:  # copy_ does not change their indices
                        now.resize_as_sparse_(self.clone)
                    now.copy_(self.clone)
        return self.tensor


class _KeptState(Kept):
    """An object with a state that can be read and set, such as a generator or an array."""

    def __init__(self, value: Any, state: Any, write: Callable[[Any, Any], object]) -> None:
        self.value, self.state, self._write = value, state, write

    def put_back(self, path: Path, instead: Mapping[Path, Tensor]) -> Any:
        self._write(self.value, self.state)
        return self.value


class _KeptItems(Kept):
    def __init__(self, value: Any, items: list[tuple[Any, Any]]) -> None:
        self.value, self.items = value, items

    def put_back(self, path: Path, instead: Mapping[Path, Tensor]) -> Any:
        value = self.value
        items = [(key, put_back(kept, (*path, key), instead)) for key, kept in self.items]
        pairs = zip(items, _items(value), strict=False)
        if len(value) == len(items) and all(k == n and v is w for (k, v), (n, w) in pairs):
            return value
        if isinstance(value, tuple):
            made: Any = [item for _, item in items]
            return value._make(made) if hasattr(value, "_make") else type(value)(made)
        if isinstance(value, dict):
            value.clear()
            value.update(items)
        elif isinstance(value, list):
            value[:] = [item for _, item in items]
        else:
            value.clear()
            (value.extend if isinstance(value, deque) else value.update)(i for _, i in items)
        return value


def keep(value: Any, clones: Clones, before: Clones, depth: int = 0) -> Any:
    """Return a copy of ``value`` as a ``Kept`` if it can change in place, else ``value`` itself.

    Args:
        value: any value. A value of unknown type is returned as it is.
        clones: copies made so far. New copies are added to it.
        before: earlier copies, which are reused if they are still equal.
        depth: number of containers that enclose the value.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Tensor):
        return _keep_tensor(value, clones, before)
    if isinstance(value, _CONTAINERS):
        if len(value) > _LARGEST or depth >= _DEEPEST:
            return value
        items = [(key, keep(item, clones, before, depth + 1)) for key, item in _items(value)]
        return _KeptItems(value, items)
    for kind, read, write in _STATES:
        if isinstance(value, kind):
            return _KeptState(value, read(value), write)
    return value


def put_back(kept: Any, path: Path = (), instead: Mapping[Path, Tensor] | None = None) -> Any:
    """Return the object given to ``keep``, with its value at that time."""
    return kept.put_back(path, instead or {}) if isinstance(kept, Kept) else kept


def has_changed(kept: Any, now: Any) -> bool:
    """Return whether ``now`` differs from the object given to ``keep``, or from its value then."""
    if isinstance(kept, _KeptTensor):
        return not isinstance(now, Tensor) or not is_same_tensor(now, kept.clone)
    if isinstance(kept, _KeptItems):
        if type(now) is not type(kept.value) or len(now) != len(kept.items):
            return True
        pairs = zip(kept.items, _items(now), strict=True)
        return any(k != key or has_changed(was, item) for (k, was), (key, item) in pairs)
    if isinstance(kept, _KeptState):
        return kept.value is not now or not _is_equal(keep(now, {}, {}).state, kept.state)
    return kept is not now and not _is_equal(kept, now)


def is_generator(kept: Any) -> bool:
    """Return whether ``keep`` was given a random generator."""
    return isinstance(kept, _KeptState) and not isinstance(kept.value, np.ndarray)


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values that ``keep`` returned are the same."""
    if isinstance(one, _KeptTensor) and isinstance(other, _KeptTensor):
        return one.clone is other.clone or is_same_tensor(one.clone, other.clone)
    if isinstance(one, _KeptItems) and isinstance(other, _KeptItems):
        pairs = zip(one.items, other.items, strict=False)
        is_alike = len(one.items) == len(other.items)
        return is_alike and all(k == n and is_same(v, w) for (k, v), (n, w) in pairs)
    if isinstance(one, _KeptState) and isinstance(other, _KeptState):
        return one.value is other.value and _is_equal(one.state, other.state)
    return one is other or _is_equal(one, other)


def tensors_in(value: Any, path: Path, depth: int = 0) -> Iterator[tuple[Path, Tensor]]:
    """Find the tensors in a value that ``keep`` would copy."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, _CONTAINERS) and len(value) <= _LARGEST and depth < _DEEPEST:
        for key, item in _items(value):
            yield from tensors_in(item, (*path, key), depth + 1)


def is_same_tensor(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same layout, type and values; NaN equals NaN."""
    if torch._C._functorch.is_functorch_wrapped_tensor(one) or isinstance(one, FakeTensor):
        return False  # such a tensor belongs to a finished computation
    if one.dtype != other.dtype or one.device != other.device or one.layout != other.layout:
        return False
    if _is_dense(one) and _is_dense(other):
        return torch.equal(one, other) or _is_equal_but_for_nan(one, other)
    if one.is_nested != other.is_nested or not (one.is_nested or one.shape == other.shape):
        return False
    parts, others = _parts(one.detach()), _parts(other.detach())
    return len(parts) == len(others) and all(map(is_same_tensor, parts, others))


_PLAIN: Final = frozenset({int, float, bool, str, bytes, complex, type(None)})
_CONTAINERS: Final = (list, tuple, dict, set, deque)
_STATES: Final[tuple[tuple[Any, Callable[[Any], Any], Callable[[Any, Any], object]], ...]] = (
    (np.ndarray, np.copy, np.copyto),
    (torch.Generator, torch.Generator.get_state, torch.Generator.set_state),
    (random.Random, random.Random.getstate, random.Random.setstate),
    (np.random.RandomState, lambda v: v.get_state(legacy=False), np.random.RandomState.set_state),
    (
        np.random.Generator,
        lambda value: value.bit_generator.state,
        lambda value, state: setattr(value.bit_generator, "state", state),
    ),
)
"""Type, a function that reads its state, and one that sets it."""


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(value.items()) if isinstance(value, dict) else enumerate(value)


def _keep_tensor(value: Tensor, clones: Clones, before: Clones) -> Any:
    if value.is_meta or is_lazy(value) or torch._C._functorch.is_functorch_wrapped_tensor(value):
        return value
    key = id(value)
    if key not in clones:
        earlier = before.get(key)
        is_right = earlier is not None and is_same_tensor(value, earlier[1])
        clones[key] = earlier if is_right and earlier else (value, value.detach().clone())
    return _KeptTensor(value, clones[key][1])


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_nested


def _is_equal_but_for_nan(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not (one.is_floating_point() or one.is_complex()):
        return False
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the strided tensors that hold the values of a tensor that is not strided."""
    if tensor.is_nested:
        return tensor.unbind()
    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in _BY_ROWS:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in _COMPRESSED:
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor.to_dense(),)


def _is_equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_equal(v, other[k]) for k, v in one.items())
    if isinstance(one, Tensor):
        return is_same_tensor(one, other)
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
    try:
        return bool(one == other) or (isinstance(one, float) and isnan(one) and isnan(other))
    except Exception:  # a user's class may raise anything in a comparison
        return False
