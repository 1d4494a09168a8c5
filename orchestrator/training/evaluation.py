"""Judging a state on a split: through the same engine as training."""

from dataclasses import dataclass

from metafleet.db.records import EvaluationRecord, JobRecord
from metafleet.learners.summary import summarise
from metafleet.orchestrator.engine.step import Dispatcher, StepOutcome, StepRequest
from metafleet.orchestrator.training.events import EvaluationDone
from metafleet.params import MetaState
from metafleet.workload import WorkloadSpec


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is judged.

    Attributes:
        split: where its episodes come from; always the same ones for a split.
        label: what the state is: "trained", "initialisation", "nearest_prototype".
        step: outer step the state comes from.
        n_episodes: how many episodes.
        batch_norm: batch-norm mode, printed with the result.
    """

    split: str
    label: str
    step: int
    n_episodes: int
    batch_norm: str


def judge_state(
    dispatcher: Dispatcher,
    spec: WorkloadSpec,
    state: MetaState,
    judgement: Judgement,
    *,
    stream: str,
) -> tuple[EvaluationDone, StepOutcome]:
    """Judge ``state`` on episodes that depend on the run's seed and the split alone."""
    outcome = dispatcher.run_step(evaluation_request(spec, state, judgement, stream=stream))
    return evaluation_of(judgement, outcome), outcome


def evaluation_request(
    spec: WorkloadSpec, state: MetaState, judgement: Judgement, *, stream: str
) -> StepRequest:
    """Ask for the episodes of a judgement of ``state``."""
    return StepRequest(
        stream=stream,
        step=judgement.step,
        kind="evaluate",
        split=judgement.split,
        episode_step=0,
        n_episodes=judgement.n_episodes,
        spec=spec,
        state=state,
    )


def evaluation_of(judgement: Judgement, outcome: StepOutcome) -> EvaluationDone:
    """Sum up what came of a judgement."""
    summary = summarise(outcome.metrics)
    return EvaluationDone(
        split=judgement.split,
        label=judgement.label,
        step=judgement.step,
        episodes=judgement.n_episodes,
        loss=summary.loss,
        loss_ci95=summary.loss_ci95,
        accuracy=summary.accuracy,
        accuracy_ci95=summary.accuracy_ci95,
        batch_norm=judgement.batch_norm,
    )


def evaluation_record(done: EvaluationDone) -> EvaluationRecord:
    """Turn a result into its row."""
    return EvaluationRecord(
        step=done.step,
        split=done.split,
        label=done.label,
        episodes=done.episodes,
        loss=done.loss,
        loss_ci95=done.loss_ci95,
        accuracy=done.accuracy,
        accuracy_ci95=done.accuracy_ci95,
        batch_norm=done.batch_norm,
        is_best=done.is_best,
    )


def job_records(stream: str, step: int, outcome: StepOutcome) -> list[JobRecord]:
    """Turn a step's jobs into their rows; attempts count from 1 there."""
    return [
        JobRecord(
            stream=stream,
            step=step,
            shard=job.shard,
            attempt=job.attempt + 1,
            worker=job.worker,
            device=job.device,
            outcome="ok",
            queue_wait_s=job.queue_wait_s,
            compute_s=job.compute_s,
            payload_bytes=job.payload_bytes,
            episodes=job.episodes,
        )
        for job in outcome.jobs
    ]
