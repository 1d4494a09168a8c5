"""From the metrics of many episodes to a mean and its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from metafleet.errors import ConfigError
from metafleet.learners.base import EpisodeMetrics

Z_95 = 1.96
"""A normal variable is within so many standard deviations of its mean in 95 % of cases."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over episodes with half widths of their 95 % intervals.

    Attributes:
        n_episodes: number of episodes, n.
        loss, loss_ci95: mean and 1.96 * std / sqrt(n), std with n - 1; 0.0 for a single episode,
            of which no spread is known.
        accuracy, accuracy_ci95: the same for accuracy in [0, 1]; None for regression.
    """

    n_episodes: int
    loss: float
    loss_ci95: float
    accuracy: float | None
    accuracy_ci95: float | None


def summarise(metrics: Sequence[EpisodeMetrics]) -> Summary:
    """Summarise episodes; their order does not change a bit of the result.

    Raises:
        ConfigError: there are no episodes.
    """
    if not metrics:
        raise ConfigError("0 episodes have no mean; evaluate on 1 or more")
    loss, loss_ci95 = _mean_and_half_width([m.loss for m in metrics])
    accuracies = [m.accuracy for m in metrics if m.accuracy is not None]
    if len(accuracies) != len(metrics):
        return Summary(len(metrics), loss, loss_ci95, None, None)
    accuracy, accuracy_ci95 = _mean_and_half_width(accuracies)
    return Summary(len(metrics), loss, loss_ci95, accuracy, accuracy_ci95)


def _mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return mean, 0.0
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean, Z_95 * math.sqrt(variance / n)
