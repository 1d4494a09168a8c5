"""The reliability diagram: the share of correct answers among answers of similar probability.

Source: Guo et al. 2017, arXiv:1706.04599, section 2 and eq. 3 (expected calibration error).
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

N_BINS: Final = 15
"""The bins have equal width, as in the paper."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """A bin of the diagram, for predicted labels whose probability is in (lower, upper].

    Attributes:
        lower, upper: bounds of the bin, in [0, 1].
        answers: number of predicted labels in the bin.
        confidence: mean probability of these labels; None if the bin is empty.
        accuracy: share of these labels that are correct; None if the bin is empty.
    """

    lower: float
    upper: float
    answers: int
    confidence: float | None
    accuracy: float | None


def reliability_bins(shares: Tensor, targets: Tensor) -> tuple[ReliabilityBin, ...]:
    """Return ``N_BINS`` bins of equal width, into which predictions are sorted by probability.

    The predicted label of an item is the most probable one.

    Args:
        shares: probabilities [n, n_way].
        targets: the correct classes, int64 [n].
    """
    confidence, answers = shares.double().max(dim=1)
    is_right = (answers == targets).double()
    places = (confidence * N_BINS).ceil().long().clamp(1, N_BINS) - 1
    counts = torch.bincount(places, minlength=N_BINS)
    sums = [torch.bincount(places, weights=w, minlength=N_BINS) for w in (confidence, is_right)]
    found = []
    for place, n in enumerate(counts.tolist()):
        means = [float(each[place]) / n if n else None for each in sums]
        found.append(ReliabilityBin(place / N_BINS, (place + 1) / N_BINS, n, *means))
    return tuple(found)


def expected_calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """Return the mean of |accuracy - confidence| over bins, weighted by answers, in [0, 1]."""
    n = sum(each.answers for each in bins)
    return sum(
        each.answers / n * abs(each.accuracy - each.confidence)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    )
