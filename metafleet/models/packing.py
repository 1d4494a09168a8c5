"""Pack dicts and tuples of tensors into one tensor, so that learners handle only tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from metafleet.errors import DataError


@dataclass(frozen=True, slots=True)
class _Leaf:
    """Describes a tensor of a structure: [n, *shape], or a scalar.

    Attributes:
        shape: shape without the first axis; None for a scalar.
        dtype: dtype of the tensor before packing.
        n_bytes: number of columns for each number if each of its bytes has a column; 0 if each
            number has one column.
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
    """Describes where the tensors of a structure lie in one tensor [n, columns].

    Attributes:
        spec: the structure without its leaves.
        leaves: the leaves in order. A tensor is described by a ``_Leaf``. Any other value is stored
            as it is.
    """

    spec: Any
    leaves: tuple[Any, ...]

    def __deepcopy__(self, memo: dict[int, Any]) -> "PackedLayout":
        """Return the layout itself, because it is immutable."""
        return self

    def unpack(self, packed: Tensor) -> Any:
        """Return the structure, made from views and casts of ``packed``."""
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
    """Return whether a value is a dict, tuple or list of tensors rather than rows of numbers."""
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
    """Concatenate the tensors of a structure along columns.

    Args:
        structure: dicts, tuples and lists of tensors [n, ...] and scalars.
        n: rows of each tensor.
        what: name of the structure, for messages.
        dtype: dtype of the result. None selects the widest dtype of all tensors. If ``dtype`` is
            None and some tensors are floats, each integer is packed as its bytes, because every
            float type holds a byte without rounding.

    Returns:
        The packed tensor [n, columns], and the layout to unpack it.

    Raises:
        DataError: a tensor does not have ``n`` rows, is complex, or has no data.
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
    """Return integers [n, k] as their bytes, [n, k * n_bytes], lowest byte first."""
    wide = rows.to(torch.int64)
    parts = [(wide >> 8 * index) & 255 for index in range(n_bytes)]
    return torch.stack(parts, dim=2).reshape(len(rows), -1)


def _from_bytes(columns: Tensor, n_bytes: int) -> Tensor:
    """Return the integers that ``_to_bytes`` converted, as int64."""
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
