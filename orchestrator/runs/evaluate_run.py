"""Evaluates the state of a run again, perhaps on other episodes than its own."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import LABEL_LENGTH
from metafleet.db.repositories import EpisodeResultsRepository, EvaluationRepository, RunRepository
from metafleet.orchestrator.autotune.scratch import open_scratch
from metafleet.orchestrator.engine.run_context import RunContext
from metafleet.orchestrator.runs.learned_work import open_learned_work
from metafleet.orchestrator.training.contenders import Contender, baselines_of
from metafleet.orchestrator.training.evaluation import (
    Judgement,
    episode_record,
    evaluation_record,
    judge_state,
)
from metafleet.orchestrator.training.events import EvaluationDone, Observer

_STREAM = "evaluate"


def evaluate_run(  # noqa: PLR0913 - options of one command
    database: Database,
    settings: Settings,
    run_id: int,
    *,
    split: str,
    episodes: int,
    in_process: bool,
    observer: Observer,
    overrides: Sequence[str] = (),
    baselines: bool = False,
) -> list[EvaluationDone]:
    """Evaluate a run's learned state on a split, and record the result.

    The evaluated state is the state of the best validation; without validation, it is the newest
    state. ``overrides`` assign values to keys of [episodes], and thereby change the episodes of the
    split. The label of the recorded result names the changes. If ``baselines`` is True, the
    baselines of ``baselines_of`` are evaluated too.

    Raises:
        CheckpointError: the run has no checkpoint yet.
        ConfigError: the split has too few classes or items for the episodes, or the episodes do not
            fit the trained model.
    """
    with database.session(read_only=True) as session:
        run = RunRepository(session).get(run_id)
    work = open_learned_work(
        settings, run, split=split, overrides=overrides, notify=observer.on_notice
    )
    workload = work.workload
    contenders = [(Contender("trained", workload.spec, work.state, workload.batch_norm), work.step)]
    if baselines:
        contenders += [(it, 0) for it in baselines_of(workload.spec, workload)]
    changes = work.config.episodes.changes_from(work.own.episodes, split)
    observer.on_notice(f"run {run.id} ({run.name}, seed {run.seed}) is judged")
    context = RunContext(settings, run.uid, in_process, observer.on_notice)
    results, of_episodes = [], []
    for contender, step in contenders:
        judgement = Judgement(
            split,
            _label_of(contender.label, changes),
            step=step,
            n_episodes=episodes,
            batch_norm=contender.batch_norm,
        )
        # one engine each: steps of a stream must increase, and baselines are of step 0
        with open_scratch(context, work.config, stream=_STREAM) as dispatcher:
            done, outcome = judge_state(
                dispatcher, contender.spec, contender.state, judgement, stream=_STREAM
            )
        results.append(done)
        of_episodes.append(episode_record(done, outcome))
        observer.on_evaluation(done)
    with database.session() as session:
        # the run's own validation or test may have judged the same episodes
        rows = [evaluation_record(done) for done in results]
        EvaluationRepository(session).upsert_many(run.id, rows, keep=("is_best",))
        EpisodeResultsRepository(session).upsert_many(run.id, of_episodes)
    return results


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
