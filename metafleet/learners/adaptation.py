"""What an adaptation leaves: something that predicts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from metafleet.params import Params


@dataclass(frozen=True, slots=True)
class Adaptation:
    """A learner that has adapted to a support set.

    Attributes:
        predict: inputs, modality -> [n, ...], to logits [n, n_way] or values [n, d]; may be called
            again and again.
        fast: the adapted parameters, of learners that adapt by inner steps; empty for others.
    """

    predict: Callable[[Mapping[str, Tensor]], Tensor]
    fast: Params
