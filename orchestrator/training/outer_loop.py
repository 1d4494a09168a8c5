"""The outer loop of meta-training: dispatch, update, record, validate, checkpoint."""

from contextlib import closing
from dataclasses import dataclass, replace

from metafleet.contracts.tracing import end_step, step_span
from metafleet.data.scoring import score_name
from metafleet.db.records import OuterStepRecord
from metafleet.episode import META_TRAIN
from metafleet.errors import FencedError, FleetError, NumericsError
from metafleet.learners.base import Learner
from metafleet.learners.summary import summarise
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.step import TRAIN_STREAM, Dispatcher, StepOutcome, StepRequest
from metafleet.orchestrator.recording.recorder import Recorder
from metafleet.orchestrator.training.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    StoredCheckpoint,
)
from metafleet.orchestrator.training.checkpoint_writer import CheckpointWriter
from metafleet.orchestrator.training.evaluation import job_records
from metafleet.orchestrator.training.events import Observer
from metafleet.orchestrator.training.inner_rates import InnerRates
from metafleet.orchestrator.training.journal import Journal
from metafleet.orchestrator.training.outer_optimiser import OuterOptimiser, UpdateFacts
from metafleet.orchestrator.training.step_pipeline import StepPipeline
from metafleet.orchestrator.training.validation import Validator
from metafleet.params import MetaState
from metafleet.workload import WorkloadSpec


@dataclass(frozen=True, slots=True)
class Trained:
    """The result of training.

    Attributes:
        state: the state of the best validation; without validation, the last state.
        step: number of outer steps after which the run had ``state``.
        steps_done: total number of outer steps done.
        stored: the final checkpoint.
    """

    state: MetaState
    step: int
    steps_done: int
    stored: StoredCheckpoint


class OuterLoop:
    """Trains one run to its end. An object of this class can be used only once.

    All decisions depend only on the configuration and the results. No step waits for the validation
    of an earlier state or for the storing of a checkpoint, but the result is the same as with
    waiting. If a validation ends the training, the steps after the validated state are undone. A
    checkpoint that is due during a validation is stored after the validation, together with the
    validation's result.

    Args:
        config: the experiment.
        spec: the experiment's workload.
        dispatcher: executes steps.
        recorder: writes rows.
        folder: stores checkpoints.
        observer: receives the events.
        learner: the learner, whose learned step sizes are recorded.
        batch_norm: the model's batch-norm mode, reported with every result.
    """

    def __init__(  # noqa: PLR0913 - each is a seam of its own
        self,
        config: ExperimentConfig,
        spec: WorkloadSpec,
        dispatcher: Dispatcher,
        recorder: Recorder,
        *,
        folder: CheckpointFolder,
        observer: Observer,
        learner: Learner,
        batch_norm: str,
    ) -> None:
        self._config, self._spec = config, spec
        self._recorder, self._observer = recorder, observer
        self._journal = Journal(recorder, observer, metric=score_name(config.data))
        self._writer = CheckpointWriter(folder, recorder)
        self._inner_rates = InnerRates(learner, recorder)
        self._pipeline = StepPipeline(
            dispatcher,
            self._request,
            stream=TRAIN_STREAM,
            staleness=config.engine.max_staleness,
            last_step=config.outer.steps,
        )
        self._validation = Validator(
            config, spec, dispatcher, recorder=recorder, observer=observer, batch_norm=batch_norm
        )
        self._due: Checkpoint | None = None  # stored once the pending verdict is known
        self._stored_step = -1

    def run(self, start: Checkpoint) -> Trained:
        """Train from ``start`` to the last step, or until validations no longer improve.

        Raises:
            NumericsError: a loss or gradient is not finite. The last checkpoint is kept.
            FleetError: the fleet cannot finish a step.
            CheckpointError: a checkpoint cannot be written.
        """
        self._optimiser = OuterOptimiser(self._config.outer, start.state)
        self._optimiser.load_moments(start.moments)
        self._whole = start
        self._inner_rates.record(start)
        with self._writer, closing(self._pipeline), closing(self._validation):
            try:
                reached = self._train(start)
            except KeyboardInterrupt:
                # later steps give the same result when they are repeated
                self._store(self._whole)
                raise
            if self._stored_step != reached.progress.step:
                self._store(reached)
            stored = self._writer.wait()
        assert stored is not None
        done, best = reached.progress, reached.best
        if best is None:
            return Trained(reached.state, done.step, done.step, stored)
        return Trained(best, done.best_step, done.step, stored)

    def _train(self, start: Checkpoint) -> Checkpoint:
        reached = replace(start, progress=replace(start.progress, is_unjudged=False))
        if start.progress.is_unjudged:
            self._begin_validation(reached)
        while True:
            self._writer.check()
            is_over = self._is_over(reached)
            if self._validation.is_ready or (is_over and self._validation.is_open):
                reached = self._judge(reached)
            elif is_over:
                return reached
            else:
                reached = self._advance(reached)

    def _is_over(self, reached: Checkpoint) -> bool:
        is_last = reached.progress.step >= self._config.outer.steps
        return is_last or self._validation.has_stalled(reached)

    def _request(self, step: int, state: MetaState) -> StepRequest:
        return StepRequest(
            stream=TRAIN_STREAM,
            step=step,
            kind="gradient",
            split=META_TRAIN,
            episode_step=step,
            n_episodes=self._config.outer.meta_batch_size,
            spec=self._spec,
            state=state,
        )

    def _advance(self, reached: Checkpoint) -> Checkpoint:
        """Do the next step and return the checkpoint after it."""
        step = reached.progress.step + 1
        try:
            outcome, step_s = self._pipeline.finish_next(reached)
            self._commit(step, outcome, step_s)
        except FencedError:
            raise
        except (NumericsError, FleetError):
            # the pending verdict may end the training before this step
            if self._validation.is_open:
                reached = self._judge(reached)
                if self._validation.has_stalled(reached):
                    return reached
            raise
        return self._follow_up(self._moved(reached, step))

    def _commit(self, step: int, outcome: StepOutcome, step_s: float) -> None:
        try:
            with step_span(TRAIN_STREAM, step, "commit"):
                facts = self._optimiser.update(step, outcome.sums, len(outcome.metrics))
                row = _row_of(step, outcome, facts, step_s)
                self._journal.add(row, job_records(TRAIN_STREAM, step, outcome))
        finally:
            end_step(TRAIN_STREAM, step)

    def _moved(self, reached: Checkpoint, step: int) -> Checkpoint:
        staleness = self._config.engine.max_staleness
        return Checkpoint(
            replace(reached.progress, step=step),
            self._optimiser.state,
            self._optimiser.moments(),
            reached.best,
            (*reached.recent, reached.state)[-staleness:] if staleness else (),
        )

    def _follow_up(self, reached: Checkpoint) -> Checkpoint:
        """Start the validation and the checkpoint that are due."""
        step = reached.progress.step
        if self._validation.is_due(step):
            if self._validation.is_open:
                reached = self._judge(reached)
                if self._validation.has_stalled(reached):
                    return reached
            self._begin_validation(reached)
        elif not self._validation.is_open:
            self._whole = reached
        if step % self._config.engine.checkpoint_every == 0:
            if self._validation.is_open:
                self._due = reached
            else:
                self._store(reached)
        return reached

    def _begin_validation(self, at: Checkpoint) -> None:
        self._validation.begin(at)
        self._whole = replace(at, progress=replace(at.progress, is_unjudged=True))
        if self._validation.may_stop:
            self._journal.hold()

    def _judge(self, reached: Checkpoint) -> Checkpoint:
        """Wait for the verdict; return the checkpoint to continue from, perhaps an earlier one."""
        judged, due, self._due = self._validation.finish(), self._due, None
        self._inner_rates.record(judged)
        if self._validation.has_stalled(judged):
            self._journal.forget()
            self._whole = judged
            return judged
        self._journal.release()
        self._whole = reached = _with_verdict(reached, judged)
        if due is not None:
            self._store(_with_verdict(due, judged))
        return reached

    def _store(self, reached: Checkpoint) -> None:
        self._writer.store(reached)
        self._inner_rates.record(reached)
        self._stored_step = reached.progress.step
        if self._recorder.status is not None:
            self._observer.on_notice(self._recorder.status)


def _with_verdict(reached: Checkpoint, judged: Checkpoint) -> Checkpoint:
    progress = replace(judged.progress, step=reached.progress.step)
    return replace(reached, progress=progress, best=judged.best)


def _row_of(step: int, outcome: StepOutcome, facts: UpdateFacts, step_s: float) -> OuterStepRecord:
    summary = summarise(outcome.metrics)
    return OuterStepRecord(
        step=step,
        loss=summary.loss,
        accuracy=summary.accuracy,
        grad_norm=facts.grad_norm,
        lr=facts.lr,
        episodes=summary.n_episodes,
        step_s=step_s,
        workers_alive=outcome.workers_alive,
        retries=outcome.retries,
        degraded=outcome.is_degraded,
        attempts=outcome.attempts,
        backups=outcome.backups,
        dropped=outcome.dropped,
        missing_shards=outcome.missing_shards,
        missing_episodes=outcome.missing_episodes,
    )
