"""The result of one batch of a training loop."""

from dataclasses import dataclass

from metafleet.script.outer_step import OuterStep


@dataclass(frozen=True, slots=True)
class BatchStep:
    """The result of one batch of a training loop.

    Attributes:
        loss: loss of the batch, before any step along its gradient.
        batch: index of the batch within its task, from 1.
        is_query: whether the batch was the query of its task. The query ends the task.
        outer: the outer step that this batch completed. None if the batch was not a query, or if
            the outer step needs more tasks.
    """

    loss: float
    batch: int
    is_query: bool
    outer: OuterStep | None
