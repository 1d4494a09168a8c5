"""What an adaptation leaves: something that predicts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from metafleet.params import Params, parted

FAST: Final = "fast"
"""The group of ``Adaptation.memory`` that holds adapted parameters."""


@dataclass(frozen=True, slots=True)
class Adaptation:
    """A learner that has adapted to a support set.

    Attributes:
        predict: inputs, modality -> [n, ...], to logits [n, n_way] or values [n, d]; may be called
            again and again.
        memory: what it predicts from besides the state, as the learner's ``remember`` returned it.
    """

    predict: Callable[[Mapping[str, Tensor]], Tensor]
    memory: Params

    @property
    def fast(self) -> Params:
        """The adapted parameters, of learners that adapt by inner steps; empty for others."""
        return parted(self.memory, FAST)
