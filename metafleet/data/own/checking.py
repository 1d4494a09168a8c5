"""Checks of the tensors that classes of the user draw."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metafleet.errors import DataError


def check_inputs(
    x: Any, modalities: Mapping[str, tuple[int, ...]], n: int, what: str
) -> dict[str, Tensor]:
    """Return modality -> its float32 tensor [n, *shape].

    Args:
        x: a tensor where there is one modality, or one for each.
        modalities: modality -> shape of one example.
        n: number of examples.
        what: whose they are, for messages.

    Raises:
        DataError: a tensor is missing, of another shape or type, or not finite.
    """
    if isinstance(x, Tensor) and len(modalities) == 1:
        x = dict.fromkeys(modalities, x)
    if not isinstance(x, Mapping) or set(x) != set(modalities):
        found = sorted(map(str, x)) if isinstance(x, Mapping) else type(x).__name__
        raise DataError(f"{what} has x of {found}; expected a tensor for each of {[*modalities]}")
    return {
        name: _checked(x[name], (n, *shape), torch.float32, f"{what} has {name}")
        for name, shape in modalities.items()
    }


def check_targets(y: Any, n: int, target_dim: int, n_way: int, what: str) -> Tensor:
    """Return the targets: float32 [n, target_dim], or classes int64 [n] ordered from 0.

    Raises:
        DataError: they are of another shape or type, not finite, or other classes.
    """
    if target_dim:
        return _checked(y, (n, target_dim), torch.float32, f"{what} has y")
    targets = _checked(y, (n,), torch.int64, f"{what} has y")
    if not torch.equal(targets, torch.arange(n_way).repeat_interleave(n // n_way)):
        raise DataError(
            f"{what} has classes y={targets.tolist()!r:.80}; expected {n // n_way} of each of "
            f"0 to {n_way - 1}, in that order"
        )
    return targets


def _checked(value: Any, shape: tuple[int, ...], dtype: torch.dtype, what: str) -> Tensor:
    expected = f"{dtype} {list(shape)}"
    if not isinstance(value, Tensor):
        raise DataError(f"{what} of {type(value).__name__}; expected a tensor {expected}")
    if tuple(value.shape) != shape or value.dtype != dtype or value.device.type != "cpu":
        place = "" if value.device.type == "cpu" else f" on {value.device}"
        raise DataError(
            f"{what} {value.dtype} {list(value.shape)}{place}; expected {expected} on the CPU"
        )
    if not torch.isfinite(value).all():
        raise DataError(f"{what} with values that are not finite; expected finite ones")
    return value.detach()
