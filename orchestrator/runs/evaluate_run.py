"""Evaluates the state of a run again, perhaps on other episodes than its own."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import (
    LABEL_LENGTH,
    EpisodeResultsRecord,
    InnerCurveRecord,
    RunRecord,
)
from metafleet.db.repositories import (
    EpisodeResultsRepository,
    EvaluationRepository,
    InnerCurveRepository,
    RunRepository,
)
from metafleet.db.repositories.evaluations import TRAINED
from metafleet.errors import ConfigError, RunNotFoundError
from metafleet.orchestrator.autotune.scratch import open_scratch
from metafleet.orchestrator.engine.run_context import RunContext
from metafleet.orchestrator.runs.learned_work import LearnedWork, open_learned_work
from metafleet.orchestrator.training.contenders import Contender, baselines_of
from metafleet.orchestrator.training.evaluation import (
    Judgement,
    episode_record,
    evaluation_record,
    judge_state,
)
from metafleet.orchestrator.training.events import EvaluationDone, Observer
from metafleet.orchestrator.training.inner_curve import (
    MOST_INNER_STEPS,
    has_inner_curve,
    judge_inner_steps,
)
from metafleet.orchestrator.training.modalities import merged, modality_sets, only
from metafleet.workload import Workload

_STREAM = "evaluate"


def evaluate_run(  # noqa: PLR0913 - options of one command
    database: Database,
    settings: Settings,
    run_uid: str,
    *,
    split: str,
    episodes: int,
    in_process: bool,
    observer: Observer,
    overrides: Sequence[str] = (),
    baselines: bool = False,
    by_modality: bool = False,
    inner_steps: bool = False,
) -> list[EvaluationDone]:
    """Evaluate a run's learned state on a split, and record the results.

    The evaluated state is the state of the best validation; without validation, it is the newest
    state. The label of a recorded result names the changes of the episodes.

    Args:
        database: an open database.
        settings: locations of the broker, the data and the checkpoints.
        run_uid: the run's uid.
        split: the split.
        episodes: number of episodes.
        in_process: whether to compute in this process, without a fleet.
        observer: receives the results.
        overrides: assignments to keys of [episodes], which change the episodes of the split.
        baselines: whether to evaluate the baselines of ``baselines_of`` too.
        by_modality: whether to evaluate each modality alone, and without each modality, too.
        inner_steps: whether to evaluate the learned state after each inner step too.

    Raises:
        CheckpointError: the run has no checkpoint yet.
        ConfigError: the split has too few classes or items for the episodes, the episodes do not
            fit the trained model, or the learner has no inner steps or no modalities to leave out.
        RunNotFoundError: there is no such run, or it was deleted during the evaluation.
    """
    with database.session(read_only=True) as session:
        run = RunRepository(session).get(run_uid)
    opened = _Opened(settings, run, split, observer)
    works = [opened.work(overrides)]
    if inner_steps:
        _require_inner_steps(works[0].workload)
    if by_modality:
        sets = modality_sets(
            works[0].workload, run_id=run.id, allowed_packages=settings.allowed_packages
        )
        works += [opened.work((*overrides, *only(shown, split))) for shown in sets]
    observer.on_notice(f"run {run.id} ({run.name}, seed {run.seed}) is judged")
    context = RunContext(settings, run.uid, in_process, observer.on_notice)
    found = _Found()
    for work in works:
        for contender, step in _contenders(work, baselines=baselines and work is works[0]):
            judgement = Judgement(
                split,
                _label_of(contender.label, _changes(work, split)),
                step=step,
                n_episodes=episodes,
                batch_norm=contender.batch_norm,
            )
            # one engine each: steps of a stream must increase, and baselines are of step 0
            with open_scratch(context, work.config, stream=_STREAM) as dispatcher:
                done, outcome = judge_state(
                    dispatcher, contender.spec, contender.state, judgement, stream=_STREAM
                )
            found.results.append(done)
            found.of_episodes.append(episode_record(done, outcome))
            observer.on_evaluation(done)
            if inner_steps and work is works[0] and contender.label == TRAINED:
                with open_scratch(context, work.config, stream=_STREAM) as dispatcher:
                    curve, _ = judge_inner_steps(
                        dispatcher,
                        contender.spec,
                        contender.state,
                        judgement,
                        n_inner_steps=work.workload.n_inner_steps,
                        stream=_STREAM,
                    )
                found.curves.append(curve)
    found.write(database, run)
    return found.results


@dataclass(frozen=True, slots=True)
class _Opened:
    """A run to be evaluated."""

    settings: Settings
    run: RunRecord
    split: str
    observer: Observer

    def work(self, overrides: Sequence[str]) -> LearnedWork:
        """Open the learned state with other episodes."""
        return open_learned_work(
            self.settings,
            self.run,
            split=self.split,
            overrides=overrides,
            notify=self.observer.on_notice,
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """What is recorded at the end of all evaluations."""

    results: list[EvaluationDone] = field(default_factory=list)
    of_episodes: list[EpisodeResultsRecord] = field(default_factory=list)
    curves: list[InnerCurveRecord] = field(default_factory=list)

    def write(self, database: Database, run: RunRecord) -> None:
        """Write the rows.

        Raises:
            RunNotFoundError: the run was deleted. Its id may belong to another run now.
        """
        with database.session() as session:
            runs = RunRepository(session)
            if (now := runs.find(run.uid)) is None:
                raise RunNotFoundError(
                    f"run {run.id} ({run.uid}) was deleted while it was evaluated; nothing was "
                    "recorded"
                )
            # the run's own validation or test may have judged the same episodes
            rows = [evaluation_record(done) for done in self.results]
            EvaluationRepository(session).upsert_many(now.id, rows, keep=("is_best",))
            EpisodeResultsRepository(session).upsert_many(now.id, self.of_episodes)
            InnerCurveRepository(session).upsert_many(now.id, self.curves)


def _contenders(work: LearnedWork, *, baselines: bool) -> Iterator[tuple[Contender, int]]:
    """Yield the states to evaluate, each with its number of outer steps."""
    workload = work.workload
    yield Contender(TRAINED, workload.spec, work.state, workload.batch_norm), work.step
    if baselines:
        yield from ((baseline, 0) for baseline in baselines_of(workload.spec, workload))


def _require_inner_steps(workload: Workload) -> None:
    """Check that there are inner steps to evaluate.

    Raises:
        ConfigError: there are none, or too many.
    """
    if not has_inner_curve(workload):
        raise ConfigError(
            f"learner {workload.spec.learner.get('name')!r} has {workload.n_inner_steps} inner "
            f"steps; expected 1 to {MOST_INNER_STEPS}; leave out --inner-steps"
        )


def _changes(work: LearnedWork, split: str) -> dict[str, Any]:
    return merged(work.config.episodes.changes_from(work.own.episodes, split))


def _label_of(what: str, changes: Mapping[str, Any]) -> str:
    """Return a label that lists the changes to the episodes, cut to the allowed length."""
    label = ", ".join([what, *(f"{key}={_written(changes[key])}" for key in sorted(changes))])
    if len(label) <= LABEL_LENGTH:
        return label
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]
    return f"{label[: LABEL_LENGTH - 9]}~{digest}"


def _written(value: Any) -> str:
    """Format a value as --set accepts it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
