"""Conversion of an outer optimiser's state to the tensors and numbers of a file, and back.

Tensors are named "<index>.<moment>", where the index is the position of the learned parameter. To
check that a file fits the optimiser, a copy of the optimiser loads the file and takes one step.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from metafleet.errors import CheckpointError
from metafleet.params import Params

_OF_SCHEDULES: Final = {"params", "initial_lr"}
"""Group keys that do not identify the optimiser; torch's schedulers add the second."""


def split(optimiser: torch.optim.Optimizer) -> tuple[Params, dict[str, float]]:
    """Return the optimiser's state per parameter, separated into tensors and numbers.

    Raises:
        CheckpointError: the state holds a value that is neither a tensor nor a number.
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
    """View a complex tensor as pairs of real numbers [..., 2]; return others unchanged."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def groups_of(optimiser: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the optimiser's groups without their parameters, as JSON-compatible values.

    Raises:
        CheckpointError: a value cannot be written as JSON.
    """
    groups = optimiser.state_dict()["param_groups"]
    return [{key: _plain(key, v) for key, v in g.items() if key != "params"} for g in groups]


def restore(
    optimiser: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, float],
    groups: Sequence[Mapping[str, Any]],
) -> None:
    """Restore the state that ``split`` and ``groups_of`` returned.

    Raises:
        CheckpointError: the state belongs to another optimiser, or this optimiser cannot step with
            the state. The optimiser is then unchanged.
        KeyError, ValueError: a name does not have the form "<index>.<moment>" that ``split`` uses.
    """
    own = groups_of(optimiser)
    known, found = ([sorted(g.keys() - _OF_SCHEDULES) for g in each] for each in (own, groups))
    if known != found:
        raise CheckpointError("it is of another outer optimiser; expected the same")
    saved = _joined(optimiser, tensors, scalars, groups)
    error = _error_after(optimiser, saved)
    # a user's own class may not support copying; then the failure is not the file's fault
    if error is not None and _error_after(optimiser, optimiser.state_dict()) is None:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(
            f"the outer optimiser cannot go on from it ({reason:.200}); expected a file of the "
            "same optimiser"
        ) from error
    optimiser.load_state_dict(saved)


def _joined(
    optimiser: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, float],
    groups: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the argument of ``load_state_dict``."""
    params = dict(enumerate(param for group in optimiser.param_groups for param in group["params"]))
    state: dict[int, dict[str, Any]] = {}
    for name, value in (*tensors.items(), *scalars.items()):
        index, moment = name.split(".", 1)
        param = params[int(index)]
        if param.is_complex() and isinstance(value, Tensor) and value.shape == (*param.shape, 2):
            value = torch.view_as_complex(value)  # noqa: PLW2901 - as it was split
        state.setdefault(int(index), {})[moment] = value
    whole = [
        {key: tuple(v) if isinstance(v, list) else v for key, v in saved.items()}
        | {"params": group["params"]}
        for saved, group in zip(groups, optimiser.state_dict()["param_groups"], strict=True)
    ]
    return {"state": state, "param_groups": whole}


def _error_after(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> Exception | None:
    """Return the error that a copy with this state raises in one step; None if it succeeds."""
    try:
        tried = copy.deepcopy(optimiser)
        tried.load_state_dict(copy.deepcopy(state))  # torch would share the tensors
        for group in tried.param_groups:
            for param in group["params"]:
                param.grad = torch.zeros_like(param)
        tried.step()
    except Exception as error:  # torch and users' own classes may raise any
        return error
    return None


def _plain(key: str, value: Any) -> Any:
    """Convert a value to one that JSON can represent."""
    if isinstance(value, Tensor) and value.dim() == 0:
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(key, item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(
        f"the outer optimiser keeps {key!r}, a {type(value).__name__}; expected tensors and numbers"
    )
