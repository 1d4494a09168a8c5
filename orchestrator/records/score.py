"""The score of an evaluation, by which runs are compared: higher is better."""

from typing import Protocol


class Scored(Protocol):
    """An evaluation, as an event or as a row."""

    @property
    def loss(self) -> float:
        """The mean loss."""
        ...

    @property
    def accuracy(self) -> float | None:
        """The mean score in [0, 1]; None for regression."""
        ...


def score_of(evaluation: Scored) -> float:
    """Return the result of an evaluation, higher is better: the score, or the negative loss."""
    return -evaluation.loss if evaluation.accuracy is None else evaluation.accuracy
