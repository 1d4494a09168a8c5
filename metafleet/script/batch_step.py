"""What one batch of a training loop did."""

from dataclasses import dataclass

from metafleet.script.outer_step import OuterStep


@dataclass(frozen=True, slots=True)
class BatchStep:
    """What one batch of a training loop did.

    Attributes:
        loss: of the batch, before any step along it.
        batch: its number in its task, from 1.
        is_query: whether it was its task's query, and ended it.
        outer: the outer step, where one was taken; None for a batch that was an inner step, and for
            a task that waits for others.
    """

    loss: float
    batch: int
    is_query: bool
    outer: OuterStep | None
