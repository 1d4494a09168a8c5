"""Validation of targets that are classes."""

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.errors import DataError

IsIgnored: TypeAlias = Callable[[Tensor], Tensor]
"""Classes [n] -> bool [n], True for classes that only mark an example to leave out."""

MOST_CLASSES: Final = 10_000
"""Maximum per episode: a larger class is a mistake, and would need memory for all below it."""


def none_ignored(classes: Tensor) -> Tensor:
    """Return a mask that ignores no class."""
    return torch.zeros_like(classes, dtype=torch.bool)


def check_classes(
    examples: ExampleSet, n_way: int, *, whose: str, is_ignored: IsIgnored = none_ignored
) -> None:
    """Check that targets are classes in [0, n_way), or, if ``n_way`` is 0, that they are values.

    Args:
        examples: a support or query set.
        n_way: number of classes; 0 if targets are values, as in regression.
        whose: "support" or "query", used in messages.
        is_ignored: a function that returns which targets to skip.

    Raises:
        DataError: a target has the wrong kind, or its class is out of range. The message gives the
            class.
    """
    if not isinstance(n_way, int) or isinstance(n_way, bool) or not 0 <= n_way <= MOST_CLASSES:
        raise DataError(f"an episode has n_way={n_way!r}; expected 0 to {MOST_CLASSES}")
    if n_way == 0:
        return
    targets = examples.targets
    if targets.is_floating_point() or targets.is_complex() or targets.dim() != 1:
        raise DataError(
            f"targets of the {whose} set are {str(targets.dtype).removeprefix('torch.')} of shape "
            f"{tuple(targets.shape)}; expected {n_way} classes as whole numbers [n]"
        )
    targets = targets[~is_ignored(targets)]
    if len(targets) == 0:
        return
    lowest, highest = (int(value) for value in targets.aminmax())
    if highest >= n_way or lowest < 0:
        raise DataError(
            f"the {whose} set has a class {highest if highest >= n_way else lowest}; expected 0 to "
            f"{n_way - 1}, for the episode has {n_way} classes"
        )
