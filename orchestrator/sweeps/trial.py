"""A trial of a sweep and its result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from metafleet.db.records import RunRecord, RunStatus, TrialRecord
from metafleet.orchestrator.records.entry import Entry
from metafleet.orchestrator.records.score import score_of
from metafleet.orchestrator.sweeps.by_optuna import Outcome

_ENDED: Final = (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial, which is one configuration of a sweep, and its run.

    Attributes:
        record: the trial in the database.
        entry: the run with its results; None if the configuration was refused.
        by_step: outer step -> result of the validation after this step, higher is better. Only the
            validations of pruned trials are read.
    """

    record: TrialRecord
    entry: Entry | None
    by_step: Mapping[int, float] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Number of the trial, from 0."""
        return self.record.number

    @property
    def values(self) -> dict[str, Any]:
        """Key of the sweep's space -> value in this trial."""
        return dict(self.record.assigned)

    @property
    def run(self) -> RunRecord | None:
        """The run; None if the configuration was refused."""
        return None if self.entry is None else self.entry.run

    @property
    def is_pruned(self) -> bool:
        """Whether a pruner ended the run."""
        is_cancelled = self.run is not None and self.run.status is RunStatus.CANCELLED
        return is_cancelled and self.record.pruned_step is not None

    @property
    def status(self) -> str:
        """The status of the run, or "refused" or "pruned"."""
        if self.run is None:
            return "refused"
        return "pruned" if self.is_pruned else self.run.status.value

    @property
    def why_ended(self) -> str | None:
        """Why the configuration was refused, or why the run failed or was cancelled; else None."""
        return self.record.refused if self.run is None else self.run.error

    @property
    def has_ended(self) -> bool:
        """Whether the trial has ended for good; an interrupted run is continued."""
        return self.run is None or self.run.status in _ENDED

    @property
    def score(self) -> float | None:
        """The best meta-validation, negative for losses; None unless the run is finished."""
        if self.entry is None or self.entry.run.status is not RunStatus.FINISHED:
            return None
        if self.entry.value("best") is None:  # also where it is NaN
            return None
        return score_of(self.entry.results["best"])

    @property
    def is_tested(self) -> bool:
        """Whether the run was evaluated on the meta-test."""
        return self.entry is not None and "test" in self.entry.results

    def outcome(self) -> Outcome:
        """Return the result as a sampler needs it."""
        score = self.score
        return Outcome(
            self.values,
            score,
            has_failed=score is None and self.has_ended,
            by_step=self.by_step,
            is_pruned=self.is_pruned,
        )


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial with the best meta-validation, of equal ones the first; None without one."""
    scored = [trial for trial in trials if trial.score is not None]
    return max(scored, key=lambda trial: (trial.score, -trial.number)) if scored else None
