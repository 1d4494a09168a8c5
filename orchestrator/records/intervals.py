"""Means of a few seeds with intervals from Student's t distribution."""

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a result over seeds.

    Attributes:
        n: number of seeds.
        mean: the mean over the seeds.
        ci95: half the width of the 95 % interval of the mean, t * s / sqrt(n). Here s is the sample
            standard deviation (with the divisor n - 1), and t is the 97.5 % quantile of Student's t
            distribution with n - 1 degrees of freedom ("The Probable Error of a Mean", Biometrika
            6, 1908). None for a single seed, because the standard deviation is unknown. Infinite if
            a value is infinite.
    """

    n: int
    mean: float
    ci95: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        """Return the mean of one value or more."""
        n = len(values)
        if n == 1:
            return cls(1, values[0], None)
        # statistics.stdev fails for infinite values
        spread = statistics.stdev(values) if all(map(math.isfinite, values)) else math.inf
        half_width = quantile(n - 1) * spread / math.sqrt(n)
        return cls(n, statistics.fmean(values), half_width)


@functools.lru_cache(maxsize=1024)
def quantile(degrees: int) -> float:
    """Return t for which a variable with Student's distribution is in [-t, t] in 95 % of cases."""
    low, high = 0.0, 100.0
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        low, high = (middle, high) if _probability(middle, degrees) < LEVEL else (low, middle)


def two_sided_p(t: float, degrees: int) -> float:
    """Return the probability that the absolute value of a Student's t variable exceeds ``|t|``.

    The variable has ``degrees`` degrees of freedom. A probability below 1e-15 can be rounded to 0.
    """
    return max(0.0, 1.0 - _probability(abs(t), degrees))


def _probability(t: float, degrees: int) -> float:
    """Return the probability that a variable with Student's t distribution is in [-t, t].

    The number of degrees of freedom is an integer. For an integer, the probability is a finite sum:
    equations 26.7.3 and 26.7.4 in Abramowitz and Stegun, "Handbook of Mathematical Functions",
    1964.
    """
    angle = math.atan2(t, math.sqrt(degrees))
    square = math.cos(angle) ** 2
    is_odd = degrees % 2
    term = math.cos(angle) if is_odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(2 + is_odd, degrees - 1, 2):
        term *= square * (k - 1) / k
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if is_odd else total
