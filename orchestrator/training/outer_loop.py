"""The outer loop of meta-training: dispatch, update, record, validate, checkpoint."""

import time
from dataclasses import dataclass, replace

from db.records import CheckpointRecord, OuterStepRecord
from metafleet.episode import META_TRAIN, META_VAL
from metafleet.params import MetaState
from metafleet.summary import summarise
from metafleet.workload import WorkloadSpec
from orchestrator.config import ExperimentConfig
from orchestrator.engine.step import Dispatcher, StepOutcome, StepRequest
from orchestrator.events import EvaluationDone, Observer, StepDone
from orchestrator.recorder import Recorder
from orchestrator.training.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    Progress,
    StoredCheckpoint,
)
from orchestrator.training.evaluation import (
    Judgement,
    evaluation_record,
    job_records,
    judge_state,
)
from orchestrator.training.outer_optimiser import OuterOptimiser

TRAIN_STREAM = "train"
VALIDATE_STREAM = "validate"


@dataclass(frozen=True, slots=True)
class Trained:
    """The end of training.

    Attributes:
        state: the state to be used: of the best validation, or the last without validation.
        step: the outer step it comes from.
        steps_done: outer steps done in all.
        stored: the final checkpoint.
    """

    state: MetaState
    step: int
    steps_done: int
    stored: StoredCheckpoint


class OuterLoop:
    """Trains one run to its end. Every decision depends on configuration and results alone.

    Args:
        config: the experiment.
        spec: its work.
        dispatcher: gets steps done.
        recorder: writes rows.
        folder: keeps checkpoints.
        observer: watches.
        batch_norm: the model's batch-norm mode, named with every result.
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
        batch_norm: str,
    ) -> None:
        self._config, self._spec = config, spec
        self._dispatcher, self._recorder = dispatcher, recorder
        self._folder, self._observer, self._batch_norm = folder, observer, batch_norm

    def run(self, start: Checkpoint) -> Trained:
        """Go on from ``start`` to the last step, or until validation stops improving.

        Raises:
            NumericsError: a loss or gradient is not finite; the last checkpoint stays.
            FleetError: the fleet cannot finish a step.
            CheckpointError: a checkpoint cannot be written.
        """
        optimiser = OuterOptimiser(self._config.outer, start.state)
        optimiser.load_moments(start.moments)
        reached, stored = start, None
        while not self._is_over(reached.progress):
            outcome, step_s = self._dispatch(reached)
            reached = self._advance(optimiser, reached, outcome, step_s)
            stored = self._store(reached) if self._is_due(reached.progress) else None
        if stored is None:
            stored = self._store(reached)
        done, best = reached.progress, reached.best
        if best is None:
            return Trained(reached.state, done.step, done.step, stored)
        return Trained(best, done.best_step, done.step, stored)

    def _is_over(self, progress: Progress) -> bool:
        patience = self._config.validation.patience
        is_stalled = 0 < patience <= progress.validations_since_best
        return is_stalled or progress.step >= self._config.outer.steps

    def _is_due(self, progress: Progress) -> bool:
        return progress.step % self._config.engine.checkpoint_every == 0

    def _dispatch(self, reached: Checkpoint) -> tuple[StepOutcome, float]:
        step = reached.progress.step + 1
        request = StepRequest(
            stream=TRAIN_STREAM,
            step=step,
            kind="gradient",
            split=META_TRAIN,
            episode_step=step,
            n_episodes=self._config.outer.meta_batch_size,
            spec=self._spec,
            state=reached.state,
        )
        started_s = time.monotonic()
        try:
            return self._dispatcher.run_step(request), time.monotonic() - started_s
        except KeyboardInterrupt:
            # between two updates the state is whole; an interrupt elsewhere costs a few steps,
            # which come out the same when they are done again
            self._store(reached)
            raise

    def _advance(
        self, optimiser: OuterOptimiser, reached: Checkpoint, outcome: StepOutcome, step_s: float
    ) -> Checkpoint:
        step = reached.progress.step + 1
        facts = optimiser.update(step, outcome.sums, len(outcome.metrics))
        summary = summarise(outcome.metrics)
        row = OuterStepRecord(
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
        )
        self._recorder.record_step(row, job_records(TRAIN_STREAM, step, outcome))
        self._observer.on_step(
            StepDone(
                step=step,
                loss=row.loss,
                accuracy=row.accuracy,
                grad_norm=row.grad_norm,
                lr=row.lr,
                episodes=row.episodes,
                step_s=step_s,
                workers_alive=row.workers_alive,
                retries=row.retries,
            )
        )
        now = Checkpoint(
            replace(reached.progress, step=step),
            optimiser.state,
            optimiser.moments(),
            reached.best,
        )
        every = self._config.validation.every
        return self._validate(now) if every and step % every == 0 else now

    def _validate(self, reached: Checkpoint) -> Checkpoint:
        progress = reached.progress
        judgement = Judgement(
            META_VAL,
            "trained",
            step=progress.step,
            n_episodes=self._config.validation.episodes,
            batch_norm=self._batch_norm,
        )
        done, outcome = judge_state(
            self._dispatcher, self._spec, reached.state, judgement, stream=VALIDATE_STREAM
        )
        score = _score(done)
        is_best = progress.best_score is None or score > progress.best_score
        done = replace(done, is_best=is_best)
        self._recorder.record_evaluation(evaluation_record(done))
        self._recorder.record_jobs(job_records(VALIDATE_STREAM, progress.step, outcome))
        self._observer.on_evaluation(done)
        if is_best:
            progress = Progress(progress.step, progress.step, score, 0)
            return replace(reached, progress=progress, best=reached.state)
        since_best = progress.validations_since_best + 1
        return replace(reached, progress=replace(progress, validations_since_best=since_best))

    def _store(self, reached: Checkpoint) -> StoredCheckpoint:
        self._recorder.flush()  # rows first: a checkpoint never covers steps that are not recorded
        stored = self._folder.write(reached)
        self._recorder.record_checkpoint(
            CheckpointRecord(
                step=reached.progress.step,
                path=str(stored.path),
                sha256=stored.sha256,
                size_bytes=stored.n_bytes,
            )
        )
        if self._recorder.status is not None:
            self._observer.on_notice(self._recorder.status)
        return stored


def _score(done: EvaluationDone) -> float:
    """Higher is better: accuracy, or the loss of a regression turned round."""
    return -done.loss if done.accuracy is None else done.accuracy
