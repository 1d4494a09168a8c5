"""Evaluates the state of a run again, perhaps on other episodes than its own."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import LABEL_LENGTH
from metafleet.db.repositories import EvaluationRepository, RunRepository
from metafleet.episode import CLASS_TEXT
from metafleet.episodes.problem_of import problem_of
from metafleet.errors import ConfigError
from metafleet.models.registry import require_seen_names
from metafleet.orchestrator.autotune.scratch import open_scratch
from metafleet.orchestrator.autotune.work_size import settled
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.run_context import RunContext
from metafleet.orchestrator.runs.run_session import get_checkpoint_of
from metafleet.orchestrator.training.contenders import Contender, baselines_of
from metafleet.orchestrator.training.evaluation import Judgement, evaluation_record, judge_state
from metafleet.orchestrator.training.events import EvaluationDone, Observer
from metafleet.params import MetaState, schema_of
from metafleet.workload import Workload

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
    """Evaluate a run's best (else newest) state on a split, and record the result.

    ``overrides`` assign keys of [episodes], to use other episodes of that split than the run's own;
    the result's label names the differences. With ``baselines``, the results of ``baselines_of``
    follow.

    Raises:
        CheckpointError: the run has no checkpoint yet.
        ConfigError: the split has no such episodes, or they do not fit the trained model.
    """
    with database.session(read_only=True) as session:
        run = RunRepository(session).get(run_id)
    own = ExperimentConfig.from_json(run.config, f"configuration of run {run.id}")
    config = settled(own.with_episodes(overrides, split=split), run)
    found = get_checkpoint_of(settings, run, observer.on_notice)
    progress, state = found.progress, found.best or found.state
    # other splits need not have such episodes: they may have too few classes, for example
    shapes = own.shapes() | {split: config.episodes.shape(split)}
    spec = replace(config.workload_spec(run.data_digest), episodes=shapes)
    workload = Workload.build(
        spec,
        data_dir=settings.data_dir,
        allowed_packages=settings.allowed_packages,
        cache_dir=settings.programs_dir,
    )
    step = progress.best_step if found.best else progress.step
    if spec.episodes != own.shapes():
        _require_same_model(run_id, workload, state, split=split, settings=settings)
    contenders = [(Contender("trained", spec, state, workload.batch_norm), step)]
    if baselines:
        contenders += [(it, 0) for it in baselines_of(spec, workload)]
    changes = config.episodes.changes_from(own.episodes, split)
    observer.on_notice(f"run {run.id} ({run.name}, seed {run.seed}) is judged")
    context = RunContext(settings, run.uid, in_process, observer.on_notice)
    results = []
    for contender, step in contenders:
        judgement = Judgement(
            split,
            _label_of(contender.label, changes),
            step=step,
            n_episodes=episodes,
            batch_norm=contender.batch_norm,
        )
        # one engine each: steps of a stream must increase, and baselines are of step 0
        with open_scratch(context, config, stream=_STREAM) as dispatcher:
            done, _ = judge_state(
                dispatcher, contender.spec, contender.state, judgement, stream=_STREAM
            )
        results.append(done)
        observer.on_evaluation(done)
    with database.session() as session:
        # the run's own validation or test may have judged the same episodes
        rows = [evaluation_record(done) for done in results]
        EvaluationRepository(session).upsert_many(run.id, rows, keep=("is_best",))
    return results


def _require_same_model(
    run_id: int, workload: Workload, state: MetaState, *, split: str, settings: Settings
) -> None:
    """Refuse episodes that need other parameters than the run has, or that show unused names.

    The episodes can change the model: a fusion without tables gets an encoder of class names.
    """
    spec = workload.spec
    needed, learned = workload.schema(), schema_of(state)
    shows_names = spec.episodes[split].class_text
    if shows_names and needed.keys() != learned.keys():
        raise ConfigError(
            f"class_text=true would need a model with {CLASS_TEXT}; run {run_id} was not trained "
            "with it; set class_text=false, or train a run with episodes.class_text=true"
        )
    for name in sorted(needed.keys() | learned.keys()):
        if needed.get(name) != learned.get(name):
            raise ConfigError(
                f"{name!r} would be {_described(needed.get(name))} with these episodes of "
                f"{split!r}, but run {run_id} has learned {_described(learned.get(name))}; "
                "expected episodes that leave the model as it is"
            )
    if shows_names:
        problem = problem_of(workload.source, spec.episodes)
        require_seen_names(spec.model, problem, allowed_packages=settings.allowed_packages)


def _described(found: tuple[str, tuple[int, ...]] | None) -> str:
    return "no such tensor" if found is None else f"{found[0]} {found[1]}"


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
