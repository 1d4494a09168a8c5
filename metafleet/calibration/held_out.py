"""Predict each support example from the others, to measure how difficult the classes are.

Classes that are harder than the classes of the calibration episodes need larger label sets. A
support set with two or more examples of a class shows how hard its classes are. To measure how hard
the classes are, some examples are held out. The model adapts to the rest, and predicts the examples
that were held out. These steps are repeated with other examples until each example was held out
once, as in the cross-conformal predictors of Vovk 2015, arXiv:1208.0806.

The *difficulty* of a support set is a high quantile of log((1 - p) / p), where p is the predicted
probability of a held-out example's own class. Thresholds of label sets are relative to the
difficulty. This is the method of Fisch et al. 2021, arXiv:2102.08898: the quantile of a new task is
estimated from its few examples, and calibration episodes correct the estimate. When examples are
held out, the model adapts to a smaller support set than when it predicts queries. The correction
includes this difference, because the difference is the same in calibration episodes of the same
shape.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from metafleet.calibration.temperature import log_odds, probabilities
from metafleet.episode import CLASS_TEXT, ExampleSet, presence_key
from metafleet.learners.base import Learner
from metafleet.learners.memory import memorise, predict_from
from metafleet.params import MetaState

MOST_FOLDS: Final = 5
"""Maximum number of adaptations. Of more examples per class, several are held out together."""
_QUANTILE: Final = 0.9


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Predictions of support examples that were held out.

    Attributes:
        logits: float64 [m, n_way].
        targets: the classes of these examples, int64 [m].
    """

    logits: Tensor
    targets: Tensor

    def difficulty(self, temperature: float) -> float | None:
        """Return the difficulty, in log odds; None if no example was held out.

        Args:
            temperature: number by which logits are divided.
        """
        if not len(self.targets):
            return None
        shares = probabilities(self.logits, temperature)
        own = shares.gather(1, self.targets[:, None]).squeeze(1)
        return float(torch.quantile(-log_odds(own), _QUANTILE))


def hold_out(learner: Learner, state: MetaState, support: ExampleSet, n_way: int) -> HeldOut:
    """Predict each support example from the others.

    An example is never held out if it is the only one of its class.

    Args:
        learner: the learner.
        state: its learned state.
        support: the support set. It contains each of the classes 0 to n_way - 1.
        n_way: number of classes.

    Raises:
        NumericsError: an adaptation diverged.
    """
    fold_of = _folds(support.targets, n_way)
    logits, targets = [], []
    for fold in range(int(fold_of.max()) + 1):
        rows = fold_of == fold
        memory = memorise(learner, state, support.rows(~rows), n_way)
        asked = support.rows(rows)
        outputs = predict_from(learner, state, memory, _as_query(asked.inputs), n_way)
        logits.append(outputs.detach().double())
        targets.append(asked.targets)
    if not logits:
        return HeldOut(torch.zeros(0, n_way, dtype=torch.float64), support.targets[:0])
    return HeldOut(torch.cat(logits), torch.cat(targets))


def _folds(targets: Tensor, n_way: int) -> Tensor:
    """Return the fold of each example, int64 [n]; -1 for the only example of a class."""
    fold_of = torch.full_like(targets, -1)
    for label in range(n_way):
        rows = (targets == label).nonzero().squeeze(1)
        if len(rows) > 1:
            fold_of[rows] = torch.arange(len(rows)) % MOST_FOLDS
    return fold_of


def _as_query(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hide the names of classes, which queries do not have."""
    hidden = (CLASS_TEXT, presence_key(CLASS_TEXT))
    return {name: torch.zeros_like(v) if name in hidden else v for name, v in inputs.items()}
