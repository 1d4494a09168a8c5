"""Reports training steps: at once, or once it is certain that they count."""

from collections.abc import Sequence

from metafleet.db.records import JobRecord, OuterStepRecord
from metafleet.orchestrator.recording.recorder import Recorder
from metafleet.orchestrator.training.events import Observer, StepDone


class Journal:
    """Records steps and reports them to the observer.

    A validation whose result is not known yet may end the training. Until the result is known, the
    steps after the validated state are provisional. The journal holds back provisional steps. If
    the training continues, the journal records and reports these steps. If the training ends, the
    journal drops them.

    Args:
        recorder: records the steps.
        observer: receives an event for each step.
        metric: name of the metric that a step's ``accuracy`` is.
    """

    def __init__(self, recorder: Recorder, observer: Observer, *, metric: str) -> None:
        self._recorder, self._observer, self._metric = recorder, observer, metric
        self._is_holding = False
        self._held: list[tuple[OuterStepRecord, Sequence[JobRecord]]] = []

    def add(self, row: OuterStepRecord, jobs: Sequence[JobRecord]) -> None:
        """Record and report a step. If the step is provisional, hold it back instead.

        Raises:
            FencedError: another orchestrator has taken over the run.
            DatabaseError: the database rejects the rows.
        """
        if self._is_holding:
            self._held.append((row, jobs))
        else:
            self._tell(row, jobs)

    def hold(self) -> None:
        """Treat the steps from now on as provisional."""
        self._is_holding = True

    def release(self) -> None:
        """Report the held steps, which count; raise as ``add`` does."""
        held, self._held, self._is_holding = self._held, [], False
        for row, jobs in held:
            self._tell(row, jobs)

    def forget(self) -> None:
        """Drop the held steps, which do not count."""
        self._held, self._is_holding = [], False

    def _tell(self, row: OuterStepRecord, jobs: Sequence[JobRecord]) -> None:
        self._recorder.record_step(row, jobs)
        self._observer.on_step(
            StepDone(
                step=row.step,
                loss=row.loss,
                accuracy=row.accuracy,
                grad_norm=row.grad_norm,
                lr=row.lr,
                episodes=row.episodes,
                step_s=row.step_s,
                workers_alive=row.workers_alive,
                retries=row.retries,
                missing_shards=row.missing_shards,
                missing_episodes=row.missing_episodes,
                metric=self._metric,
            )
        )
