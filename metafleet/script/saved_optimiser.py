"""What an outer optimiser keeps, as tensors and numbers of a file, and back.

Tensors are named "<index>.<moment>": what is kept for the learned parameter of that index. What may
come back is found out by trying: a copy of the optimiser does one step.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from metafleet.errors import CheckpointError
from metafleet.params import Params

_OF_SCHEDULES: Final = {"params", "initial_lr"}
"""Keys of a group that say nothing of the optimiser: torch's schedules add the second."""


def split(optimiser: torch.optim.Optimizer) -> tuple[Params, dict[str, float]]:
    """Return what the optimiser keeps for its parameters: tensors, and numbers.

    Raises:
        CheckpointError: it keeps something else.
    """
    tensors: Params = {}
    scalars: dict[str, float] = {}
    for index, moments in optimiser.state_dict()["state"].items():
        for moment, value in moments.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{moment}"] = as_real(value)
            elif value is not None:
                scalars[f"{index}.{moment}"] = _plain(moment, value)
    return tensors, scalars


def as_real(tensor: Tensor) -> Tensor:
    """Return complex numbers as pairs of real ones [..., 2], in the same memory; others as is."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def groups_of(optimiser: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the optimiser's groups without their parameters, as JSON can hold them.

    Raises:
        CheckpointError: JSON cannot.
    """
    groups = optimiser.state_dict()["param_groups"]
    return [{key: _plain(key, v) for key, v in g.items() if key != "params"} for g in groups]


def check_moments(
    optimiser: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, float],
    path: Path,
) -> None:
    """Refuse what the optimiser could not go on from.

    Args:
        optimiser: of the parameters that are learned; stays as it is.
        tensors: as from ``split``; they need no content.
        scalars: as from ``split``.
        path: where they are from, for messages.

    Raises:
        CheckpointError: names the first thing that is missing, or of another shape or type.
    """
    params = [param for group in optimiser.param_groups for param in group["params"]]
    for name in (*tensors, *scalars):
        index = name.split(".", 1)[0]
        if not (index.isdecimal() and int(index) < len(params)) or "." not in name:
            raise CheckpointError(
                f"{path} is damaged, or of another outer optimiser: it has 'optimiser.{name:.40}' "
                f"for {len(params)} learned parameters"
            )
    if not tensors and not scalars:
        return  # it never made a step, or keeps nothing
    known, known_scalars = _after_one_step(optimiser)
    if missing := (known.keys() | known_scalars.keys()) - (tensors.keys() | scalars.keys()):
        raise CheckpointError(
            f"{path} is of another outer optimiser, or damaged: 'optimiser.{min(missing)}' is not "
            "in it; expected the same optimiser"
        )
    for name, value in tensors.items():
        own = params[int(name.split(".", 1)[0])]
        like = known.get(name, own if value.dim() else value)
        require_alike(f"optimiser.{name}", value, like, path)


def check_groups(
    optimiser: torch.optim.Optimizer, groups: list[dict[str, Any]], path: Path
) -> None:
    """Refuse groups that are not such as the optimiser has.

    Raises:
        CheckpointError: names the key.
    """
    now = groups_of(optimiser)
    known, found = ([sorted(g.keys() - _OF_SCHEDULES) for g in all_] for all_ in (now, groups))
    if known != found:
        raise CheckpointError(f"{path} is of another outer optimiser; expected the same")
    for own, saved in zip(now, groups, strict=True):
        for key in own.keys() & saved.keys():
            if _kind(own[key]) != _kind(saved[key]):
                raise CheckpointError(
                    f"{path} has {key}={saved[key]!r:.40} for the outer optimiser; expected one "
                    f"like {own[key]!r:.40}: use the same optimiser, or another copy of the file"
                )


def restore(
    optimiser: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, float],
    groups: list[dict[str, Any]],
) -> None:
    """Put back what was checked."""
    params = [param for group in optimiser.param_groups for param in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in (*tensors.items(), *scalars.items()):
        index, moment = name.split(".", 1)
        param = params[int(index)]
        if param.is_complex() and isinstance(value, Tensor) and value.shape == (*param.shape, 2):
            value = torch.view_as_complex(value)  # noqa: PLW2901 - as it was split
        state.setdefault(int(index), {})[moment] = value
    now = optimiser.state_dict()["param_groups"]
    whole = [
        {key: tuple(v) if isinstance(v, list) else v for key, v in saved.items()}
        | {"params": group["params"]}
        for saved, group in zip(groups, now, strict=True)
    ]
    optimiser.load_state_dict({"state": state, "param_groups": whole})


def require_alike(name: str, found: Tensor, like: Tensor, path: Path) -> None:
    """Refuse a tensor of another shape or type.

    Raises:
        CheckpointError: names it.
    """
    for what, is_now, expected in (
        ("shape", tuple(found.shape), tuple(like.shape)),
        ("type", found.dtype, like.dtype),
    ):
        if is_now != expected:
            raise CheckpointError(
                f"tensor {name!r} has {what} {is_now} in {path}; expected {expected}: the same "
                "module, of the same precision"
            )


def _after_one_step(optimiser: torch.optim.Optimizer) -> tuple[Params, dict[str, float]]:
    """Return what a copy keeps that went one step, along gradients of zero.

    Nothing, where that cannot be done: somebody's own optimiser may not be made to be copied.
    """
    try:
        tried = copy.deepcopy(optimiser)
        for group in tried.param_groups:
            for param in group["params"]:
                param.grad = torch.zeros_like(param)
        tried.step()
        return split(tried)
    except Exception:  # whatever somebody's own makes of it
        return {}, {}


def _kind(value: Any) -> Any:
    if isinstance(value, list):
        return [_kind(item) for item in value]
    if isinstance(value, bool) or value is None:
        return "switch"  # those of torch are None where torch decides
    return "number" if isinstance(value, int | float) else "text"


def _plain(key: str, value: Any) -> Any:
    """Return a value that JSON can hold."""
    if isinstance(value, Tensor) and value.dim() == 0:
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(key, item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(
        f"the outer optimiser keeps {key!r}, a {type(value).__name__}; expected tensors and numbers"
    )
