"""A support set as named tensors, and two sets of inputs made alike."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metafleet.episode import ExampleSet, is_presence_key
from metafleet.params import Params, named, parted

_INPUTS = "support"
_TARGETS = "targets"


def keep_support(support: ExampleSet) -> Params:
    """Return a support set as tensors: "support.<input>" and "targets"."""
    return named(_INPUTS, support.inputs) | {_TARGETS: support.targets}


def kept_support(memory: Mapping[str, Tensor]) -> ExampleSet:
    """Undo ``keep_support``."""
    return ExampleSet(parted(memory, _INPUTS), memory[_TARGETS])


def is_kept_support(memory: Mapping[str, Tensor]) -> bool:
    """Tell whether tensors are, or hold, what ``keep_support`` returned."""
    return _TARGETS in memory


def alike(
    support: ExampleSet, inputs: Mapping[str, Tensor]
) -> tuple[ExampleSet, Mapping[str, Tensor]]:
    """Say in both sets which examples have a modality, where one of them says so.

    Examples of which nothing is said have it.
    """
    masks = {name for name in (*support.inputs, *inputs) if is_presence_key(name)}
    return ExampleSet(_with_masks(support.inputs, masks), support.targets), _with_masks(
        inputs, masks
    )


def _with_masks(inputs: Mapping[str, Tensor], masks: set[str]) -> dict[str, Tensor]:
    n = len(next(iter(inputs.values())))
    return {**inputs, **{name: torch.ones(n) for name in sorted(masks - inputs.keys())}}
