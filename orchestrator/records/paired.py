"""Statistics of paired differences: t test, bootstrap interval, correction for several tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from metafleet.orchestrator.records.intervals import LEVEL, Mean, two_sided_p

RESAMPLES: Final = 2_000
LEAST_RESAMPLED: Final = 50
"""Minimum number of episodes for a bootstrap interval. With fewer, it is too narrow: for 10 normal
differences, it contains the true mean in only 89 % of cases."""

_SEED: Final = 20_180_101
_MOST_AT_ONCE: Final = 2_000_000
"""Maximum number of drawn indices in memory."""
Differences = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Paired:
    """The mean of paired differences, with an interval and a test of whether the true mean is zero.

    Attributes:
        n: number of pairs.
        mean: mean of the differences.
        low, high: lower and upper end of the 95 % interval of the mean; None if it is not defined.
        p: the p value of the test: the probability, if the true mean is zero, of a mean that is at
            least as far from zero as ``mean``. ``holm`` corrects it for the number of comparisons.
            None if it is not defined. Interval and test are not defined for a single pair, and if
            all differences are equal but not zero: without a spread, nothing says how much of the
            mean is due to chance.
    """

    n: int
    mean: float
    low: float | None
    high: float | None
    p: float | None


def over_episodes(differences: Sequence[float]) -> Paired:
    """Compare two states by the differences of their results on the same episodes.

    The test is Student's paired t test. With ``LEAST_RESAMPLED`` or more episodes, the interval is
    a bootstrap interval: the 2.5 % and 97.5 % quantiles of the means of ``RESAMPLES`` samples with
    replacement (Efron, "Bootstrap Methods", Annals of Statistics 7, 1979). With fewer episodes, the
    interval comes from Student's t distribution. The same differences always give the same
    interval.
    """
    values = np.asarray(differences, dtype=np.float64)
    found = over_seeds(differences)
    if found.p is None or len(values) < LEAST_RESAMPLED:
        return found
    low, high = np.quantile(_resampled_means(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return replace(found, low=float(low), high=float(high))


def over_seeds(differences: Sequence[float]) -> Paired:
    """Compare two groups by the mean difference of each seed.

    The test is Student's t test, and the interval comes from Student's t distribution. There is no
    bootstrap interval, because there are too few values for resampling.
    """
    mean = Mean.of(differences)
    p = _p_of(np.asarray(differences, dtype=np.float64))
    if p is None or mean.ci95 is None:
        return Paired(mean.n, mean.mean, None, None, None)
    return Paired(mean.n, mean.mean, mean.mean - mean.ci95, mean.mean + mean.ci95, p)


def holm(values: Sequence[float]) -> list[float]:
    """Return p values that are corrected for several comparisons, in the order of the arguments.

    A difference is called significant if its corrected p value is at most a given level. The
    probability that this happens to at least one difference whose true value is zero is then at
    most the level (Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian
    Journal of Statistics 6, 1979).
    """
    corrected = [0.0] * len(values)
    least = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        least = max(least, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = least
    return corrected


def _resampled_means(values: Differences) -> Differences:
    n = len(values)
    generator = np.random.default_rng(_SEED)
    at_once = max(1, _MOST_AT_ONCE // n)
    means = [
        values[generator.integers(0, n, size=(min(at_once, RESAMPLES - first), n))].mean(axis=1)
        for first in range(0, RESAMPLES, at_once)
    ]
    return np.concatenate(means)


def _p_of(values: Differences) -> float | None:
    n = len(values)
    if n == 1:
        return None
    if (values == values[0]).all():  # rounding can make the standard deviation positive
        return 1.0 if values[0] == 0 else None
    spread = float(values.std(ddof=1))
    return two_sided_p(float(values.mean()) / (spread / math.sqrt(n)), n - 1)
