"""Sets of labels that hold the right one as often as was asked for.

The non-conformity of a label is 1 - p, its set all labels whose score is at most a threshold: split
conformal prediction (Vovk et al. 2005, "Algorithmic Learning in a Random World"; Sadinle et al.
2019, arXiv:1609.00451). Queries of an episode share a support set, so they are not exchangeable
with queries of others: episodes are. The threshold is therefore that of Lee, Barber and Willett
2023, arXiv:2306.06342, for such data: each of K calibration episodes has the weight 1 / (K + 1),
shared by its queries, and the rest is at infinity. A query of a further episode drawn alike is then
covered with at least the probability that was asked for.
"""

import math
from typing import Final

from torch import Tensor

N_LEVELS: Final = 1000
"""Thresholds are kept for coverages of 1 / N_LEVELS, 2 / N_LEVELS, ...; between, the next holds."""
_DIGITS: Final = 10**6


def coverage_thresholds(shares: Tensor, targets: Tensor) -> tuple[float, ...]:
    """Return the thresholds of coverages 1 / N_LEVELS to (N_LEVELS - 1) / N_LEVELS.

    Where there are too few episodes for a coverage, its threshold is 1.0: all labels are in the
    set.

    Args:
        shares: probabilities [episodes, queries, n_way].
        targets: int64 [episodes, queries].
    """
    n_episodes, n_queries = targets.shape
    right = shares.gather(-1, targets[..., None])
    scores = (1.0 - right.double()).flatten().sort().values
    found = []
    for level in range(1, N_LEVELS):
        # the least number of scores whose weight is the coverage, in whole numbers
        rank = -(-level * (n_episodes + 1) * n_queries // N_LEVELS)
        score = float(scores[rank - 1]) if rank <= len(scores) else 1.0
        found.append(min(1.0, math.ceil(score * _DIGITS) / _DIGITS))
    return tuple(found)


def threshold_of(thresholds: tuple[float, ...], coverage: float) -> float:
    """Return the threshold of a coverage in (0, 1); beyond the last level, that of all labels."""
    level = math.ceil(round(coverage * N_LEVELS, 6))
    return thresholds[level - 1] if level < N_LEVELS else 1.0


def label_sets(shares: Tensor, threshold: float) -> Tensor:
    """Return which labels are in the set, bool [..., n_way], of probabilities [..., n_way]."""
    return 1.0 - shares.double() <= threshold


def is_covered(sets: Tensor, targets: Tensor) -> Tensor:
    """Return whether the right label is in its set, bool [...]."""
    return sets.gather(-1, targets[..., None]).squeeze(-1)
