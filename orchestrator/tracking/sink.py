"""What a sink is: a program that receives the records of a run, and how far it has them."""

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
    """Receives the records of one run. The sink itself keeps the mark, beside what it received."""

    def open(self, run: RunRecord) -> Mark:
        """Begin, or go on after an interruption; return how far the sink has the run."""
        ...

    def send(
        self,
        steps: Sequence[OuterStepRecord],
        evaluations: Sequence[EvaluationRecord],
        mark: Mark,
    ) -> None:
        """Take records that it lacks, and keep ``mark``, which is true once it has them."""
        ...

    def end(self, run: RunRecord) -> None:
        """Take the status of the run, which has ended or is left for a while."""
        ...

    def close(self) -> None:
        """Release the files; may be called twice."""
        ...


def name_of(evaluation: EvaluationRecord) -> str:
    """Return a name that is unique among the evaluations of a run."""
    return f"{evaluation.step}/{evaluation.split}/{evaluation.label}/{evaluation.episodes}"
