"""Checks of the values that user-defined data sets return."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metafleet.episode import is_modality_name
from metafleet.errors import ConfigError, DataError


def check_modalities(name: str, found: object) -> dict[str, tuple[int, ...]]:
    """Return modality -> shape of one example, as declared by the user's class.

    Raises:
        ConfigError: the declaration is invalid.
    """
    is_sound = (
        isinstance(found, Mapping)
        and len(found) > 0
        and all(
            isinstance(modality, str) and is_modality_name(modality) and _is_shape(shape)
            for modality, shape in found.items()
        )
    )
    if not is_sound or not isinstance(found, Mapping):
        raise ConfigError(
            f"data set {name!r} has modalities={found!r:.200}; expected the shape of one example "
            'by name, such as {"x": (2,)}'
        )
    return {modality: tuple(shape) for modality, shape in found.items()}


def check_inputs(
    x: Any, modalities: Mapping[str, tuple[int, ...]], n: int, what: str
) -> dict[str, Tensor]:
    """Return modality -> its float32 tensor [n, *shape].

    Args:
        x: modality -> tensor; if there is only one modality, a tensor.
        modalities: modality -> shape of one example.
        n: number of examples.
        what: description of the examples, for messages.

    Raises:
        DataError: a tensor is missing, has another shape or type, or is not finite.
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
    """Return the targets: float32 [n, target_dim], or classes int64 [n], in ascending order from 0.

    Raises:
        DataError: the targets have another shape or dtype, are not finite, or are not these classes
            in this order.
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


def _is_shape(shape: object) -> bool:
    return isinstance(shape, tuple | list) and all(type(n) is int and n >= 1 for n in shape)
