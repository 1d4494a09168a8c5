"""Telling items of none of the classes from the others, by one number of their logits."""

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
"""Score -> logits at their temperature [..., n_way] to how well an item fits any class, [...].

"probability" is the largest one: Hendrycks and Gimpel 2017, arXiv:1610.02136. "logit" is the
largest one, of prototypes minus the distance to the nearest: Hendrycks et al. 2022,
arXiv:1911.11132. "energy" is minus that of Liu et al. 2020, arXiv:2010.03759, eq. 4.
"""


@dataclass(frozen=True, slots=True)
class UnknownRule:
    """How items of none of the classes are told.

    Attributes:
        score: of ``SCORES``.
        threshold: an item whose score is below is of none of the classes.
        auroc: on the episodes that it was chosen on, in [0, 1]; chance is 0.5.
        n_unknown: how many other classes these had.
    """

    score: str
    threshold: float
    auroc: float
    n_unknown: int

    def __post_init__(self) -> None:
        require(self.score in SCORES, "score", self.score, f"one of {', '.join(SCORES)}")

    def is_unknown(self, logits: Tensor, temperature: float) -> Tensor:
        """Return which items are of none of the classes, bool [...], of logits [..., n_way]."""
        return SCORES[self.score](logits.double() / temperature) < self.threshold


def choose_rule(known: Tensor, unknown: Tensor, temperature: float, n_unknown: int) -> UnknownRule:
    """Choose the score that tells unknown items best, and the threshold that keeps ``KEPT``.

    Args:
        known: logits [..., n_way] of items of the classes.
        unknown: logits [..., n_way] of others.
        temperature: that they are divided by.
        n_unknown: how many classes the others are of.
    """
    found = {}
    for name, score in SCORES.items():
        kept, refused = (score(each.double() / temperature).flatten() for each in (known, unknown))
        found[name] = auroc(kept, refused), kept
    best = max(found, key=lambda name: found[name][0])
    area, scores = found[best]
    # the largest score that leaves KEPT of them at or above it
    rank = int((1.0 - KEPT) * len(scores))
    threshold = float(scores.sort().values[rank])
    return UnknownRule(best, threshold, area, n_unknown)


def auroc(known: Tensor, unknown: Tensor) -> float:
    """Return the chance that a known item has the higher score of two, ties counting as half.

    Args:
        known: scores [n].
        unknown: scores [m].
    """
    known, unknown = known.double(), unknown.double().sort().values
    below = torch.searchsorted(unknown, known, right=False)
    not_above = torch.searchsorted(unknown, known, right=True)
    return float((below + not_above).double().mean()) / (2 * len(unknown))
