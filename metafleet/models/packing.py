"""Dicts and tuples of tensors as one tensor, so that a learner need not know of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from metafleet.errors import DataError


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A tensor of a structure: [n, *shape], or a scalar.

    Attributes:
        shape: None for a scalar.
        dtype: its own.
        n_bytes: columns for each of its numbers, one a byte; 0 where the number itself is one.
    """

    shape: tuple[int, ...] | None
    dtype: torch.dtype
    n_bytes: int

    @property
    def n_columns(self) -> int:
        n_numbers = 1 if self.shape is None else torch.Size(self.shape).numel()
        return n_numbers * max(self.n_bytes, 1)


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """How tensors of a structure lie in one tensor [n, columns].

    Attributes:
        spec: the structure.
        leaves: a ``_Leaf`` for each of its tensors; what is no tensor, itself.
    """

    spec: Any
    leaves: tuple[Any, ...]

    def __deepcopy__(self, memo: dict[int, Any]) -> "PackedLayout":
        """Return itself: nothing of it ever changes."""
        return self

    def unpack(self, packed: Tensor) -> Any:
        """Return the structure, of views and casts of ``packed``."""
        found, start = [], 0
        for leaf in self.leaves:
            if not isinstance(leaf, _Leaf):
                found.append(leaf)
                continue
            part = packed[:, start : start + leaf.n_columns]
            start += leaf.n_columns
            part = (_from_bytes(part, leaf.n_bytes) if leaf.n_bytes else part).to(leaf.dtype)
            found.append(part[0, 0] if leaf.shape is None else part.reshape(-1, *leaf.shape))
        return _pytree.tree_unflatten(found, self.spec)


def is_structure(value: Any) -> bool:
    """Return whether a value is a dict, tuple or list of tensors, and not rows of numbers."""
    if isinstance(value, Mapping):
        return True
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    return any(is_structure(v) or (isinstance(v, Tensor) and v.dim() > 0) for v in value) and any(
        isinstance(leaf, Tensor) for leaf in _pytree.tree_leaves(value)
    )


def pack(
    structure: Any, *, n: int, what: str, dtype: torch.dtype | None = None
) -> tuple[Tensor, PackedLayout]:
    """Put the tensors of a structure side by side.

    Args:
        structure: dicts, tuples and lists of tensors [n, ...], and of scalars.
        n: rows of each tensor.
        what: whose they are, for messages.
        dtype: of what comes out; None for the widest of all. Whole numbers among floats are
            then packed as their bytes, which every type of floats holds without rounding.

    Returns:
        [n, columns], and how to take it apart.

    Raises:
        DataError: a tensor has other rows, or numbers that would not stay what they are.
    """
    values, spec = _pytree.tree_flatten(structure)
    columns, leaves = [], []
    has_floats = any(isinstance(v, Tensor) and v.is_floating_point() for v in values)
    for value in values:
        if not isinstance(value, Tensor):
            leaves.append(value)
            continue
        _check(value, n, what)
        is_scalar = value.dim() == 0
        is_split = dtype is None and has_floats and not value.is_floating_point()
        n_bytes = value.element_size() if is_split else 0
        shape = None if is_scalar else tuple(value.shape[1:])
        leaves.append(_Leaf(shape, value.dtype, n_bytes))
        rows = value.expand(n, 1) if is_scalar else value.reshape(n, -1)
        if is_split:
            rows = _to_bytes(rows, n_bytes)
        columns.append(rows if dtype is None else rows.to(dtype))
    if not columns:
        raise DataError(f"{what} have no tensor in them; expected some [n, ...]")
    return torch.cat(columns, dim=1), PackedLayout(spec, tuple(leaves))


def _to_bytes(rows: Tensor, n_bytes: int) -> Tensor:
    """Return whole numbers [n, k] as their bytes, [n, k * n_bytes], the lowest first."""
    wide = rows.to(torch.int64)
    parts = [(wide >> 8 * index) & 255 for index in range(n_bytes)]
    return torch.stack(parts, dim=2).reshape(len(rows), -1)


def _from_bytes(columns: Tensor, n_bytes: int) -> Tensor:
    """Return the whole numbers that ``_to_bytes`` was given, as int64."""
    parts = columns.to(torch.int64).reshape(len(columns), -1, n_bytes).unbind(dim=2)
    total = parts[0]
    for index, part in enumerate(parts[1:], 1):
        total = total | (part << 8 * index)
    return total


def _check(value: Tensor, n: int, what: str) -> None:
    if value.is_complex() or value.is_meta:
        raise DataError(
            f"{what} have a tensor of complex numbers or without data; expected real ones"
        )
    if value.dim() > 0 and len(value) != n:
        raise DataError(
            f"{what} have a tensor of shape {tuple(value.shape)} for {n} examples; expected "
            "tensors [n, ...] and scalars"
        )
