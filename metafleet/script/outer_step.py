"""The result of one outer step."""

from dataclasses import dataclass

from metafleet.learners.base import EpisodeMetrics


@dataclass(frozen=True, slots=True)
class OuterStep:
    """The result of one outer step.

    Attributes:
        step: number of the step, from 1.
        loss: mean query loss over the meta-batch, computed before the update.
        accuracy: mean accuracy in [0, 1]; None if targets are values.
        grad_norm: Euclidean norm of the mean meta-gradient, before clipping.
        episodes: loss and accuracy of each episode, in order.
    """

    step: int
    loss: float
    accuracy: float | None
    grad_norm: float
    episodes: tuple[EpisodeMetrics, ...]
