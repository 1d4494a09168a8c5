"""Which examples have a modality, and what stands in where one is missing."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metafleet.episode import presence_key


def presence(inputs: Mapping[str, Tensor], modality: str) -> Tensor:
    """Return 1 for each example that has ``modality`` and 0 for others, float [n].

    All have it where ``inputs`` holds the modality without a mask; none has it where it does not
    hold the modality at all, as in episodes of a mixture.
    """
    mask = inputs.get(presence_key(modality))
    if mask is not None:
        return mask
    if modality in inputs:
        return _of_examples(inputs[modality], 1.0)
    return _of_examples(next(iter(inputs.values())), 0.0)


def stand_in(values: Tensor, mask: Tensor) -> Tensor:
    """Put a present example in the place of each absent one, so that no statistics see its zeros.

    What a network makes of it is to be masked afterwards. Looks at no value in Python, so it can
    be mapped and traced.

    Args:
        values: [n, ...], zeros where absent.
        mask: [n], 1 where present and 0 where absent.

    Returns:
        [n, ...]: an absent example is the last present one before it, or the last of all; zeros
        where none is present.
    """
    if torch.compiler.is_exporting():  # no batch statistics are taken, and few formats have cummax
        return values
    places = torch.arange(mask.shape[0], device=mask.device)
    before = torch.cummax(torch.where(mask > 0, places, -1), dim=0).values
    chosen = torch.where(before >= 0, before, before[-1].clamp(min=0))
    return values[chosen]


def _of_examples(values: Tensor, fill: float) -> Tensor:
    return values.new_full((values.shape[0],), fill)
