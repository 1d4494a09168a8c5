"""Evaluates a state on a split, with the same engine as training."""

from dataclasses import dataclass

from metafleet.data.scoring import score_name
from metafleet.db.records import EpisodeResultsRecord, EvaluationRecord, JobRecord
from metafleet.learners.summary import summarise
from metafleet.orchestrator.engine.step import Dispatcher, StepOutcome, StepRequest
from metafleet.orchestrator.training.events import EvaluationDone
from metafleet.params import MetaState
from metafleet.workload import WorkloadSpec


@dataclass(frozen=True, slots=True)
class Judgement:
    """The description of one evaluation.

    Attributes:
        split: the split from which episodes are drawn. For a run and a split, the sequence of
            episodes is always the same.
        label: the kind of state: "trained", "initialisation" or "nearest_prototype".
        step: number of outer steps after which the run had the evaluated state.
        n_episodes: number of episodes.
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
    """Evaluate ``state`` on episodes that depend only on the run's seed and the split."""
    outcome = dispatcher.run_step(evaluation_request(spec, state, judgement, stream=stream))
    return evaluation_of(spec, judgement, outcome), outcome


def evaluation_request(
    spec: WorkloadSpec, state: MetaState, judgement: Judgement, *, stream: str
) -> StepRequest:
    """Return the request that evaluates ``state``."""
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


def evaluation_of(spec: WorkloadSpec, judgement: Judgement, outcome: StepOutcome) -> EvaluationDone:
    """Summarise the outcome of an evaluation."""
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
        metric=score_name(spec.data),
    )


def evaluation_record(done: EvaluationDone) -> EvaluationRecord:
    """Convert a result to its row."""
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


def episode_record(done: EvaluationDone, outcome: StepOutcome) -> EpisodeResultsRecord:
    """Return the row with the results of each episode."""
    accuracies = tuple(m.accuracy for m in outcome.metrics if m.accuracy is not None)
    return EpisodeResultsRecord(
        step=done.step,
        split=done.split,
        label=done.label,
        episodes=done.episodes,
        losses=tuple(m.loss for m in outcome.metrics),
        accuracies=None if done.accuracy is None else accuracies,
    )


def job_records(stream: str, step: int, outcome: StepOutcome) -> list[JobRecord]:
    """Convert a step's jobs to rows, in which attempts count from 1."""
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
            sent_us=job.sent_us,
            round_trip_s=job.round_trip_s,
        )
        for job in outcome.jobs
    ]
