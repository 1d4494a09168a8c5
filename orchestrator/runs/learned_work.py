"""The learned state of a run, with the run's data opened for episodes of any shape."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from metafleet.contracts.settings import Settings
from metafleet.db.records import RunRecord
from metafleet.episode import CLASS_TEXT
from metafleet.episodes.problem_of import problem_of
from metafleet.errors import ConfigError
from metafleet.models.registry import require_seen_names
from metafleet.orchestrator.autotune.work_size import settled
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.runs.run_session import get_checkpoint_of
from metafleet.params import MetaState, schema_of
from metafleet.workload import Workload


@dataclass(frozen=True, slots=True)
class LearnedWork:
    """The learned state of a run, and the workload that evaluates the state.

    Attributes:
        own: the run's own configuration.
        config: the run's configuration with the requested episodes.
        workload: the workload of ``config``.
        state: the state of the run's best validation; without validation, the newest state.
        step: number of outer steps after which the run had this state.
    """

    own: ExperimentConfig
    config: ExperimentConfig
    workload: Workload
    state: MetaState
    step: int


def open_learned_work(
    settings: Settings,
    run: RunRecord,
    *,
    split: str,
    overrides: Sequence[str],
    notify: Callable[[str], None],
) -> LearnedWork:
    """Open a run's data, and bind the run's learner to episodes of a split.

    Args:
        settings: locations of the data and the checkpoints.
        run: the run.
        split: the split for which ``overrides`` change the episodes.
        overrides: assignments to keys of [episodes].
        notify: receives a notice about damaged checkpoints.

    Raises:
        CheckpointError: the run has no checkpoint yet.
        ConfigError: the split has too few classes or items for the episodes, or the episodes do not
            fit the trained model.
    """
    own = ExperimentConfig.from_json(run.config, f"configuration of run {run.id}")
    config = settled(own.with_episodes(overrides, split=split), run)
    found = get_checkpoint_of(settings, run, notify)
    state = found.best or found.state
    # other splits need not have such episodes: they may have too few classes, for example
    shapes = own.shapes() | {split: config.episodes.shape(split)}
    workload = Workload.build(
        replace(config.workload_spec(run.data_digest), episodes=shapes),
        data_dir=settings.data_dir,
        allowed_packages=settings.allowed_packages,
        cache_dir=settings.programs_dir,
    )
    step = found.progress.best_step if found.best else found.progress.step
    if shapes != own.shapes():
        _require_same_model(run.id, workload, state, split=split, settings=settings)
    return LearnedWork(own, config, workload, state, step)


def _require_same_model(
    run_id: int, workload: Workload, state: MetaState, *, split: str, settings: Settings
) -> None:
    """Refuse episodes that the trained model cannot process.

    Some of a model's parameters depend on the episodes. For example, a fusion model has an encoder
    of class names only if the episodes contain class names. Episodes are refused if they need
    parameters that the run's state lacks, or if they show class names and the run's model does not
    read class names.
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
    if shows_names and not getattr(workload.learner, "reads_class_text", False):
        problem = problem_of(workload.source, spec.episodes)
        require_seen_names(spec.model, problem, allowed_packages=settings.allowed_packages)


def _described(found: tuple[str, tuple[int, ...]] | None) -> str:
    return "no such tensor" if found is None else f"{found[0]} {found[1]}"
