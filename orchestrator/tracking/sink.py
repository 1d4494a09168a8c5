"""The interface of sinks. A sink passes the records of a run to a program such as TensorBoard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from metafleet.db.records import EvaluationRecord, OuterStepRecord, RunRecord


@dataclass(frozen=True, slots=True)
class Mark:
    """Says which records of a run a sink already has.

    Attributes:
        step: the last outer step that the sink has; 0 for none.
        evaluations: names of the evaluations that the sink has; see ``name_of``.
    """

    step: int = 0
    evaluations: frozenset[str] = frozenset()


class Sink(Protocol):
    """Receives the records of one run, and stores the mark together with these records."""

    def open(self, run: RunRecord) -> Mark:
        """Begin, or continue after an interruption. Return which records the sink already has."""
        ...

    def send(
        self,
        steps: Sequence[OuterStepRecord],
        evaluations: Sequence[EvaluationRecord],
        mark: Mark,
    ) -> None:
        """Store records that the sink lacks. Then store ``mark``, which includes these records."""
        ...

    def end(self, run: RunRecord) -> None:
        """Store the status of the run, which has ended or was interrupted."""
        ...

    def close(self) -> None:
        """Release the files. A second call has no effect."""
        ...


def name_of(evaluation: EvaluationRecord) -> str:
    """Return a name that is unique among the evaluations of a run."""
    return f"{evaluation.step}/{evaluation.split}/{evaluation.label}/{evaluation.episodes}"
