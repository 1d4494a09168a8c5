"""Reads the learned model of a run from its checkpoint."""

from collections.abc import Callable, Iterable

from metafleet.contracts.settings import Settings
from metafleet.data.registry import open_data
from metafleet.db.records import EvaluationRecord, RunRecord
from metafleet.episode import CLASS_TEXT
from metafleet.episodes.problem_of import problem_of
from metafleet.errors import ConfigError
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.provenance import Provenance
from metafleet.inference.run_inputs import class_text_spec, input_specs
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.runs.model_record import record_of
from metafleet.orchestrator.runs.run_session import get_checkpoint_of


def learned_by(
    settings: Settings,
    run: RunRecord,
    evaluations: Iterable[EvaluationRecord],
    notify: Callable[[str], None],
) -> LearnedModel:
    """Return a run's learned state.

    This is the state of the best validation; without validation, it is the newest state. The run
    can still be in progress.

    Args:
        settings: locations of the data and the checkpoints.
        run: the run.
        evaluations: all evaluations of the run.
        notify: receives a notice about damaged checkpoints.

    Raises:
        CheckpointError: the run has no checkpoint on this host, or all its checkpoints are damaged.
        DataMissingError: the run's data are not on this machine.
        ConfigError: the examples of the run's data set cannot be read from files.
    """
    found = get_checkpoint_of(settings, run, notify)
    config = ExperimentConfig.from_json(run.config, f"configuration of run {run.id}")
    spec = config.workload_spec(run.data_digest)
    allowed = settings.allowed_packages
    data = open_data(spec.data, settings.data_dir, allowed_packages=allowed)
    source = data.open_source()
    try:
        inputs = input_specs(spec.data, settings.data_dir, allowed_packages=allowed)
    except ConfigError as error:
        raise ConfigError(f"run {run.id} cannot be used on files: {error}") from error
    problem = problem_of(source, spec.episodes)
    names = (
        class_text_spec(spec.data, settings.data_dir, allowed_packages=allowed)
        if CLASS_TEXT in problem.modalities
        else None
    )
    blueprint = Blueprint(spec.learner, spec.model, problem, inputs, names)
    state = found.best or found.state
    origin = Provenance(
        run=run.uid,
        name=run.name,
        step=found.progress.best_step if found.best else found.progress.step,
        seed=run.seed,
        data=str(spec.data.get("imported") or spec.data["name"]),
        data_digest=run.data_digest,
        code=run.code_version,
        packages=dict(run.package_versions),
    )
    record = record_of(config, evaluations, step=origin.step, data_licence=data.dataset.licence)
    return LearnedModel.of(blueprint, state, origin, allowed, record)
