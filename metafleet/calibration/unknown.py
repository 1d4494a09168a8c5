"""Detect items that belong to none of the classes, by a score computed from their logits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from metafleet.options import require

KEPT: Final = 0.95
"""The share of known items that a threshold keeps."""

SCORES: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "probability": lambda logits: logits.softmax(dim=-1).amax(dim=-1),
    "logit": lambda logits: logits.amax(dim=-1),
    "energy": lambda logits: logits.logsumexp(dim=-1),
}
"""Name -> score, a function from logits, divided by their temperature, [..., n_way] to [...].

A high score means that the item fits one of the classes well. "probability" is the largest
probability (Hendrycks and Gimpel 2017, arXiv:1610.02136). "logit" is the largest logit; with
prototypes this is minus the distance to the nearest one (Hendrycks et al. 2022, arXiv:1911.11132).
"energy" is minus the energy of Liu et al. 2020, arXiv:2010.03759, eq. 4.
"""


@dataclass(frozen=True, slots=True)
class UnknownRule:
    """The rule that detects unknown items, which belong to none of the classes.

    Attributes:
        score: name of the score in ``SCORES``.
        threshold: the rule takes an item for unknown if the item's score is below this number.
        auroc: area under the ROC curve, in [0, 1], measured on the episodes on which the rule was
            chosen. A random score has 0.5.
        n_unknown: number of unknown classes in each of these episodes.
    """

    score: str
    threshold: float
    auroc: float
    n_unknown: int

    def __post_init__(self) -> None:
        require(self.score in SCORES, "score", self.score, f"one of {', '.join(SCORES)}")

    def is_unknown(self, logits: Tensor, temperature: float) -> Tensor:
        """Return which items are unknown, bool [...], given their logits [..., n_way]."""
        return SCORES[self.score](logits.double() / temperature) < self.threshold


def choose_rule(known: Tensor, unknown: Tensor, temperature: float, n_unknown: int) -> UnknownRule:
    """Return the rule with the score that separates known and unknown items best.

    The rule's threshold is chosen so that the share ``KEPT`` of the known items is kept.

    Args:
        known: logits [..., n_way] of items that belong to the classes.
        unknown: logits [..., n_way] of items of other classes.
        temperature: number by which logits are divided.
        n_unknown: number of other classes in each episode.
    """
    found = {}
    for name, score in SCORES.items():
        kept, refused = (score(each.double() / temperature).flatten() for each in (known, unknown))
        found[name] = auroc(kept, refused), kept
    best = max(found, key=lambda name: found[name][0])
    area, scores = found[best]
    # the largest threshold that keeps a share of KEPT of the known items
    rank = int((1.0 - KEPT) * len(scores))
    threshold = float(scores.sort().values[rank])
    return UnknownRule(best, threshold, area, n_unknown)


def auroc(known: Tensor, unknown: Tensor) -> float:
    """Return P(known > unknown) + P(known = unknown) / 2 for the scores of randomly drawn items.

    Args:
        known: scores [n].
        unknown: scores [m].
    """
    known, unknown = known.double(), unknown.double().sort().values
    below = torch.searchsorted(unknown, known, right=False)
    not_above = torch.searchsorted(unknown, known, right=True)
    return float((below + not_above).double().mean()) / (2 * len(unknown))
