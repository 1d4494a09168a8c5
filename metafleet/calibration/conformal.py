"""Label sets that contain the correct label with a requested probability, the coverage.

This is split conformal prediction (Vovk et al. 2005, "Algorithmic Learning in a Random World";
Sadinle et al. 2019, arXiv:1609.00451). The score of a label with probability p is 1 - p, and an
item's set contains all labels whose score is at most a threshold. The method needs exchangeable
data: the order of the data must not affect their distribution. Episodes are exchangeable. Queries
are not, because the queries of an episode share a support set. The threshold is therefore computed
as by Lee, Barber and Willett 2023, arXiv:2306.06342. It is a weighted quantile of the scores of the
correct labels. Each of K calibration episodes has the weight 1 / (K + 1), divided equally among its
queries, and an infinite score has the remaining weight. If a new episode is drawn in the same way,
the label set of each query contains the correct label with at least the requested probability.

In practice, the guarantee is weaker. First, the temperature is fitted on the same episodes, and the
state may have been chosen by validation on the same classes. The calibration episodes are therefore
not quite exchangeable with new episodes. Second, if new classes are harder than the validation
classes, the coverage is less than requested. If the difficulty of each support set is known
(``metafleet.calibration.held_out``), scores relative to this difficulty reduce the second error.
"""

import math
from typing import Final

import torch
from torch import Tensor

from metafleet.calibration.temperature import log_odds

N_LEVELS: Final = 1000
"""Thresholds are stored for coverages 1 / N_LEVELS, 2 / N_LEVELS, ...; others are rounded up."""
_DIGITS: Final = 10**6


def coverage_thresholds(shares: Tensor, targets: Tensor) -> tuple[float, ...]:
    """Return the thresholds of coverages 1 / N_LEVELS to (N_LEVELS - 1) / N_LEVELS.

    If there are too few episodes for a coverage, its threshold is 1.0: sets contain all labels.

    Args:
        shares: probabilities [episodes, queries, n_way].
        targets: the correct classes, int64 [episodes, queries].
    """
    n_episodes, n_queries = targets.shape
    right = shares.gather(-1, targets[..., None])
    scores = (1.0 - right.double()).flatten().sort().values
    found = []
    for level in range(1, N_LEVELS):
        # the smallest number of scores whose weight reaches the coverage, in integer arithmetic
        rank = -(-level * (n_episodes + 1) * n_queries // N_LEVELS)
        score = float(scores[rank - 1]) if rank <= len(scores) else 1.0
        found.append(min(1.0, math.ceil(score * _DIGITS) / _DIGITS))
    return tuple(found)


def relative_shares(shares: Tensor, difficulty: Tensor | float) -> Tensor:
    """Return probabilities whose log odds are higher by the difficulty of the support set.

    The results do not sum to 1, and serve only as scores.

    Args:
        shares: float64 probabilities [..., n_way].
        difficulty: in log odds; a number, or broadcastable to ``shares``.
    """
    return torch.sigmoid(log_odds(shares) + difficulty)


def threshold_of(thresholds: tuple[float, ...], coverage: float) -> float:
    """Return the threshold of a coverage in (0, 1); above the last level 1.0, for all labels."""
    level = max(1, math.ceil(round(coverage * N_LEVELS, 6)))
    return thresholds[level - 1] if level < N_LEVELS else 1.0


def label_sets(shares: Tensor, threshold: float) -> Tensor:
    """Return which labels are in the set, bool [..., n_way], given probabilities [..., n_way]."""
    return 1.0 - shares.double() <= threshold


def is_covered(sets: Tensor, targets: Tensor) -> Tensor:
    """Return whether each set contains the correct label, bool [...]."""
    return sets.gather(-1, targets[..., None]).squeeze(-1)
