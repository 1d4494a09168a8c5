"""Validates during training; training waits for a verdict only when it depends on it."""

from dataclasses import dataclass, replace

from metafleet.episode import META_VAL
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.step import Dispatcher, Ticket
from metafleet.orchestrator.recording.recorder import Recorder
from metafleet.orchestrator.training.checkpoint import Checkpoint
from metafleet.orchestrator.training.evaluation import (
    Judgement,
    episode_record,
    evaluation_of,
    evaluation_record,
    evaluation_request,
    job_records,
)
from metafleet.orchestrator.training.events import EvaluationDone, Observer
from metafleet.workload import WorkloadSpec

VALIDATE_STREAM = "validate"


@dataclass(frozen=True, slots=True)
class _Open:
    """A validation in progress: its checkpoint, description and ticket."""

    at: Checkpoint
    judgement: Judgement
    ticket: Ticket


class Validator:
    """Validates states of a run, one at a time, while training continues.

    Args:
        config: the experiment.
        spec: the experiment's workload.
        dispatcher: executes the validation's episodes.
        recorder: writes rows.
        observer: receives each result.
        batch_norm: the model's batch-norm mode, reported with every result.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        spec: WorkloadSpec,
        dispatcher: Dispatcher,
        *,
        recorder: Recorder,
        observer: Observer,
        batch_norm: str,
    ) -> None:
        self._options, self._spec, self._dispatcher = config.validation, spec, dispatcher
        self._recorder, self._observer, self._batch_norm = recorder, observer, batch_norm
        self._open: _Open | None = None

    @property
    def is_open(self) -> bool:
        """Whether a verdict is pending."""
        return self._open is not None

    @property
    def is_ready(self) -> bool:
        """Whether the verdict is available without waiting for workers."""
        return self._open is not None and self._dispatcher.is_ready(self._open.ticket)

    @property
    def may_stop(self) -> bool:
        """Whether the pending verdict may end the training."""
        if self._open is None:
            return False
        since_best = self._open.at.progress.validations_since_best
        return 0 < self._options.patience <= since_best + 1

    def is_due(self, step: int) -> bool:
        """Return whether the state after ``step`` must be validated."""
        return bool(self._options.every) and step % self._options.every == 0

    def has_stalled(self, reached: Checkpoint) -> bool:
        """Return whether the verdicts so far end the training."""
        return 0 < self._options.patience <= reached.progress.validations_since_best

    def begin(self, at: Checkpoint) -> None:
        """Start to validate the state of ``at``."""
        judgement = Judgement(
            META_VAL,
            "trained",
            step=at.progress.step,
            n_episodes=self._options.episodes,
            batch_norm=self._batch_norm,
        )
        request = evaluation_request(self._spec, at.state, judgement, stream=VALIDATE_STREAM)
        self._open = _Open(at, judgement, self._dispatcher.begin(request))

    def finish(self) -> Checkpoint:
        """Wait for the result, and record it; return the validated checkpoint with the result.

        Raises:
            NumericsError, FleetError: for the same reasons as ``Dispatcher.finish``.
        """
        assert self._open is not None
        at, judgement, ticket = self._open.at, self._open.judgement, self._open.ticket
        self._open = None
        outcome = self._dispatcher.finish(ticket)
        done = evaluation_of(self._spec, judgement, outcome)
        judged = _judge(at, done)
        done = replace(done, is_best=judged.progress.best_step == done.step)
        self._recorder.record_evaluation(evaluation_record(done), episode_record(done, outcome))
        self._recorder.record_jobs(job_records(VALIDATE_STREAM, done.step, outcome))
        self._observer.on_evaluation(done)
        return judged

    def close(self) -> None:
        """Drop the pending validation."""
        if self._open is not None:
            self._dispatcher.drop(self._open.ticket)
            self._open = None


def _judge(at: Checkpoint, done: EvaluationDone) -> Checkpoint:
    score = -done.loss if done.accuracy is None else done.accuracy  # higher is better
    progress = at.progress
    if progress.best_score is not None and score <= progress.best_score:
        since_best = progress.validations_since_best + 1
        return replace(at, progress=replace(progress, validations_since_best=since_best))
    progress = replace(progress, best_step=done.step, best_score=score, validations_since_best=0)
    return replace(at, progress=progress, best=at.state)
