"""Summarise the metrics of many episodes as means with confidence intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from metafleet.errors import ConfigError
from metafleet.learners.base import EpisodeMetrics

Z_95 = 1.96
"""A normal variable lies within this many standard deviations of its mean in 95 % of cases."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over episodes, with the half-widths of their 95 % confidence intervals.

    Attributes:
        n_episodes: number of episodes, n.
        loss, loss_ci95: mean of the loss and the half-width 1.96 * std / sqrt(n), where std divides
            by n - 1. The half-width is 0.0 for a single episode, whose spread is unknown.
        accuracy, accuracy_ci95: mean of the accuracy, which is in [0, 1], and half-width of the
            mean's interval. Both are None for regression.
    """

    n_episodes: int
    loss: float
    loss_ci95: float
    accuracy: float | None
    accuracy_ci95: float | None


def summarise(metrics: Sequence[EpisodeMetrics]) -> Summary:
    """Summarise episodes. The result is bit-identical for any order of the episodes.

    Raises:
        ConfigError: there are no episodes.
    """
    if not metrics:
        raise ConfigError("0 episodes have no mean; evaluate on 1 or more")
    loss, loss_ci95 = mean_and_half_width([m.loss for m in metrics])
    accuracies = [m.accuracy for m in metrics if m.accuracy is not None]
    if len(accuracies) != len(metrics):
        return Summary(len(metrics), loss, loss_ci95, None, None)
    accuracy, accuracy_ci95 = mean_and_half_width(accuracies)
    return Summary(len(metrics), loss, loss_ci95, accuracy, accuracy_ci95)


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of one number per episode, and half the width of its 95 % interval."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return mean, 0.0
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean, Z_95 * math.sqrt(variance / n)
