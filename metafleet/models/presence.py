"""Find which examples have a modality, and substitute values where it is missing."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metafleet.episode import presence_key


def presence(inputs: Mapping[str, Tensor], modality: str) -> Tensor:
    """Return 1 for each example that has ``modality`` and 0 for the others, float [n].

    If ``inputs`` has the modality but no mask for it, all examples have the modality. If ``inputs``
    lacks the modality, as in some episodes of a mixture of data sets, no example has it.
    """
    mask = inputs.get(presence_key(modality))
    if mask is not None:
        return mask
    if modality in inputs:
        return _of_examples(inputs[modality], 1.0)
    return _of_examples(next(iter(inputs.values())), 0.0)


def stand_in(values: Tensor, mask: Tensor) -> Tensor:
    """Replace absent examples by present ones, so that zeros do not affect batch statistics.

    The caller must mask the network's outputs for absent examples. The function does not branch on
    tensor values, so it can be mapped and traced.

    Args:
        values: [n, ...], zeros where absent.
        mask: [n], 1 where present and 0 where absent.

    Returns:
        [n, ...]. An absent example is replaced by the last present example before it. If there is
        no present example before it, it is replaced by the last present example of the batch. If no
        example is present, the result is zeros.
    """
    # an exported model computes no batch statistics, and few formats support cummax
    if torch.compiler.is_exporting():
        return values
    places = torch.arange(mask.shape[0], device=mask.device)
    before = torch.cummax(torch.where(mask > 0, places, -1), dim=0).values
    chosen = torch.where(before >= 0, before, before[-1].clamp(min=0))
    return values[chosen]


def _of_examples(values: Tensor, fill: float) -> Tensor:
    return values.new_full((values.shape[0],), fill)
