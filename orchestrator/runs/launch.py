"""Creates runs from a configuration, and executes them."""

import platform
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

from sqlalchemy import Connection
from structlog.contextvars import bound_contextvars

from metafleet.contracts.redaction import Redactor
from metafleet.contracts.settings import Settings
from metafleet.contracts.tracing import start_tracing
from metafleet.contracts.version import code_version
from metafleet.data.registry import encoder_identities, open_data, pin
from metafleet.data.summary import Progress
from metafleet.db.engine import Database
from metafleet.db.records import NewRun, RunRecord, RunStatus
from metafleet.db.repositories import (
    JobRepository,
    OuterStepRepository,
    RunNotes,
    RunRepository,
    ServerRepository,
)
from metafleet.encoders.identity import has_same_weights
from metafleet.episode import CLASS_TEXT
from metafleet.errors import (
    ConfigError,
    FencedError,
    MetafleetError,
    RunCancelledError,
    RunLeasedError,
)
from metafleet.inference.state_room import require_room
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.runs.process_name import process_name
from metafleet.orchestrator.runs.run_session import ExecutionOptions, RunSession
from metafleet.orchestrator.runs.user_code import describe_user_code
from metafleet.orchestrator.tracking.live import tracked_run
from metafleet.orchestrator.training.events import EvaluationDone, Observer
from metafleet.tracking.targets import check_targets
from metafleet.workload import Workload

_PACKAGES = ("torch", "numpy", "celery", "kombu", "redis", "sqlalchemy", "safetensors", "pillow")
MOST_PRIORITY: Final = 1000


@dataclass(frozen=True, slots=True)
class RunReport:
    """The result of a run.

    Attributes:
        run_id: the run's id.
        status: "finished".
        steps: number of outer steps done.
        checkpoint_sha256: digest of the final checkpoint's tensors.
        evaluations: the results on unseen classes, including the results of baselines.
        workers: names of the workers that computed the run's jobs.
        wall_s: wall-clock time of this execution, in seconds.
        degraded_steps: outer steps that were committed although shards were missing.
        missing_episodes: number of episodes in all missing shards together.
    """

    run_id: int
    status: str
    steps: int
    checkpoint_sha256: str
    evaluations: tuple[EvaluationDone, ...]
    workers: tuple[str, ...]
    wall_s: float
    degraded_steps: int = 0
    missing_episodes: int = 0


@dataclass(frozen=True, slots=True)
class Queueing:
    """How runs are queued.

    Attributes:
        detached: whether to queue the runs now, for servers to execute.
        priority: priority of the runs in the queue, -1000 to 1000. Runs with a higher priority are
            executed first. The priority is recorded even if the runs are not queued now.
    """

    detached: bool
    priority: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.priority, int) or abs(self.priority) > MOST_PRIORITY:
            raise ConfigError(
                f"priority={self.priority!r:.40}; expected a whole number from {-MOST_PRIORITY} to "
                f"{MOST_PRIORITY}"
            )


def check_data(settings: Settings, config: ExperimentConfig, progress: Progress) -> None:
    """If the data need no download, prepare them; then check that the experiment fits the data.

    Raises:
        DataMissingError: the data are not on this machine.
        ConfigError: there are too few data for the episodes, or the model or the learner does not
            fit the data.
    """
    data = open_data(config.data, settings.data_dir, allowed_packages=settings.allowed_packages)
    data.check_place()
    if data.is_ready():
        data.prepare(progress)
    config.check_source(data.open_source(), allowed_packages=settings.allowed_packages)


def create_runs(  # noqa: PLR0913 - what the runs are made of
    database: Database,
    settings: Settings,
    config: ExperimentConfig,
    *,
    seeds: Sequence[int],
    name: str | None = None,
    queue: Queueing | None = None,
    parent_uid: str | None = None,
    tags: Sequence[str] = (),
    keep: Callable[[Connection, Sequence[RunRecord]], None] | None = None,
) -> list[RunRecord]:
    """Check that the experiment can be built, then record one run for each seed.

    If ``queue.detached`` is True, the runs wait for a server. Otherwise, the caller must execute
    the runs. If the configuration was made by changing the configuration of another run,
    ``parent_uid`` is the uid of the other run. Each new run gets ``tags``.
    ``keep`` is called with the new runs in the transaction that adds them.

    Raises:
        ConfigError: model, learner and data do not fit together, or METAFLEET_TRACK has a target to
            which the runs cannot be sent. Nothing was recorded.
        DataMissingError: the data are not on this machine.
    """
    queue = queue or Queueing(detached=False)
    if not queue.detached:  # a server has settings of its own
        check_targets(settings.track)
    allowed = settings.allowed_packages
    open_data(config.data, settings.data_dir, allowed_packages=allowed).check_place()
    config = config.with_data(pin(config.data, settings.data_dir))
    data_digest = open_data(config.data, settings.data_dir, allowed_packages=allowed).digest()
    workload = Workload.build(
        config.workload_spec(data_digest),
        data_dir=settings.data_dir,
        allowed_packages=allowed,
        cache_dir=settings.programs_dir,
    )
    workload.check_execution()
    _require_parameters(workload, config)
    versions = _package_versions()
    user_code = describe_user_code(config.to_json(), allowed)
    encoders = encoder_identities(config.data, settings.data_dir, allowed_packages=allowed)
    _require_one_space(workload, config, encoders)
    with database.session() as session:
        repository = RunRepository(session)
        found = [
            repository.add(
                NewRun(
                    experiment=config.name,
                    name=name or config.name,
                    seed=seed,
                    n_steps=config.outer.steps,
                    config=config.with_seed(seed).to_json(),
                    code_version=code_version(),
                    package_versions=versions,
                    data_digest=data_digest,
                    encoders=encoders or None,
                    user_code=user_code or None,
                    host=socket.gethostname(),
                    detached=queue.detached,
                    priority=queue.priority,
                    owner=None if queue.detached else process_name(),
                    parent_uid=parent_uid,
                )
            )
            for seed in seeds
        ]
        for run in found:
            RunNotes(session).add_tags(run.id, tags)
        if keep is not None:
            keep(session, found)
        return found


def _require_parameters(workload: Workload, config: ExperimentConfig) -> None:
    """Refuse a learner without parameters, e.g. nearest prototypes of raw inputs."""
    require_room(workload.learner)
    if not workload.init_state().params:
        raise ConfigError(
            f"learner {config.learner['name']!r} with model {config.model['name']!r} has nothing "
            "to learn; expected parameters. To judge prototypes of raw inputs, train a run with "
            "test.baselines = true, or use `metafleet evaluate RUN --baselines`"
        )


def _require_one_space(
    workload: Workload, config: ExperimentConfig, encoders: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse to compare features with names of classes that another encoder encoded."""
    of_names = encoders.get(CLASS_TEXT)
    reads_names = getattr(workload.learner, "reads_class_text", False)
    if of_names is None or not reads_names or config.model["name"] != "raw":
        return  # other models learn to map features into the space of the names
    for modality in workload.source.modalities:
        if not has_same_weights(encoders.get(modality, {}), of_names):
            raise ConfigError(
                f"learner {config.learner['name']!r} compares {modality!r} with names of classes, "
                "but data.class_text.encoder is not the encoder of these items; encode both by the "
                "same encoder, or choose a model that learns, such as 'adapter'"
            )


def execute_run(
    database: Database,
    settings: Settings,
    run_id: int,
    *,
    options: ExecutionOptions,
    observer: Observer,
    track: Sequence[Any] = (),
) -> RunReport:
    """Train a run to its end, and test it. If the run has a checkpoint, continue from the newest.

    The run's status becomes running, then finished, failed or interrupted.

    Args:
        database: an open database.
        settings: locations of the broker, the data and the checkpoints.
        run_id: the run.
        options: how to execute it.
        observer: receives the run's events.
        track: where to send the run's records, in addition to ``settings.track``; see
            ``metafleet.tracking.targets.open_sink``.

    Raises:
        RunLeasedError: another process is executing the run.
        RunCancelledError: the run was cancelled during this call.
        MetafleetError: another error stopped the run. The last checkpoint is kept, and the run can
            be resumed from it.
    """
    started_s = time.monotonic()
    start_tracing(settings, "metafleet-orchestrator")
    with database.session(read_only=True) as session:
        run = RunRepository(session).get(run_id)
        if options.tenure is None:
            _refuse_served(session, run)
    try:
        with (
            bound_contextvars(run=run.uid),
            tracked_run(database, run.uid, (*settings.track, *track), observer.on_notice),
            RunSession(database, settings, run, options=options, observer=observer) as running,
        ):
            trained = running.train()
            evaluations = running.test(trained)
    except FencedError as error:
        raise _why_fenced(database, run_id, error) from error
    except RunLeasedError:
        raise
    except (MetafleetError, KeyboardInterrupt) as error:
        _note_unbegun(database, run, error, Redactor.of(settings))
        raise
    with database.session(read_only=True) as session:
        by_worker = JobRepository(session).count_by_worker(run_id)
        degraded = OuterStepRepository(session).count_degraded(run_id)
    return RunReport(
        run_id=run_id,
        status=RunStatus.FINISHED.value,
        steps=trained.steps_done,
        checkpoint_sha256=trained.stored.sha256,
        evaluations=tuple(evaluations),
        workers=tuple(sorted({entry.worker for entry in by_worker})),
        wall_s=time.monotonic() - started_s,
        degraded_steps=degraded.steps,
        missing_episodes=degraded.missing_episodes,
    )


def _refuse_served(session: Connection, run: RunRecord) -> None:
    """Refuse a run that a live server is executing."""
    is_served = run.status is RunStatus.RUNNING and run.detached and run.owner is not None
    if is_served and ServerRepository(session).is_alive(str(run.owner)):
        raise RunLeasedError(
            f"run {run.id} is being run by the server {run.owner}; watch it with `metafleet runs "
            f"attach {run.id}`, or stop it with `metafleet runs cancel {run.id}`"
        )


def _note_unbegun(
    database: Database, run: RunRecord, error: BaseException, redact: Redactor
) -> None:
    """Record why a run could not begin: nothing else records it."""
    is_interrupt = isinstance(error, KeyboardInterrupt)
    status = RunStatus.INTERRUPTED if is_interrupt else RunStatus.FAILED
    with suppress(MetafleetError), database.session() as session:
        runs = RunRepository(session)
        if runs.get(run.uid).status is RunStatus.CREATED:
            why = redact(str(error)) or "interrupted before it began"
            runs.mark_status(run.id, status, error=why)


def _why_fenced(database: Database, run_id: int, error: FencedError) -> MetafleetError:
    """Return RunCancelledError if the run was cancelled, else ``error``: it was taken over."""
    try:
        with database.session(read_only=True) as session:
            run = RunRepository(session).get(run_id)
    except MetafleetError:
        return error
    if run.status is not RunStatus.CANCELLED:
        return error
    return RunCancelledError(
        f"run {run_id} was cancelled after step {run.steps_done}; "
        f"`metafleet runs resume {run_id}` goes on from its last checkpoint"
    )


def _package_versions() -> dict[str, str]:
    """List the versions of Python and of the packages that matter to a result."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
