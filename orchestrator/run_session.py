"""One execution of one run: what must be open while it runs, and closed whatever happens."""

import json
import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from contracts.settings import Settings
from db.engine import Database
from db.records import RunRecord, RunStatus
from db.repositories import RunRepository
from metafleet.device import resolve_device
from metafleet.episode import META_TEST
from metafleet.errors import (
    DatabaseError,
    FencedError,
    FingerprintError,
    MetafleetError,
    RunLeasedError,
)
from metafleet.params import MetaState
from metafleet.workload import Workload, WorkloadSpec
from orchestrator.config import ExperimentConfig
from orchestrator.engine.fleet import FleetDispatcher, FleetOptions
from orchestrator.engine.local import LocalDispatcher
from orchestrator.engine.step import Dispatcher
from orchestrator.events import EvaluationDone, Observer, RunStarted, StepDone
from orchestrator.recorder import Recorder
from orchestrator.training.checkpoint import Checkpoint, CheckpointFolder, Progress
from orchestrator.training.evaluation import (
    Judgement,
    evaluation_record,
    job_records,
    judge_state,
)
from orchestrator.training.outer_loop import OuterLoop, Trained

log = logging.getLogger(__name__)


def open_dispatcher(  # noqa: PLR0913 - the seams of a dispatcher
    settings: Settings,
    config: ExperimentConfig,
    run: str,
    *,
    in_process: bool,
    next_epoch: Callable[[], int],
    notify: Callable[[str], None],
    fingerprint: str = "",
    relaxed: bool = False,
) -> Dispatcher:
    """Open the engine a run asks for: the fleet, or this process."""
    engine = config.engine
    if in_process:
        next_epoch()
        return LocalDispatcher(
            episodes_per_job=engine.episodes_per_job,
            data_dir=settings.data_dir,
            device=resolve_device(engine.device),
            allowed_packages=settings.allowed_packages,
            wire_dtype=engine.wire_dtype,
        )
    options = FleetOptions(
        episodes_per_job=engine.episodes_per_job,
        device=engine.device,
        is_strict=engine.numerics == "strict" and not relaxed,
        max_attempts=engine.max_attempts,
        step_deadline_s=engine.step_deadline_s,
        min_fraction=engine.min_fraction if engine.policy == "partial" else 1.0,
        wire_dtype=engine.wire_dtype,
        reduce_fan_in=engine.reduce_fan_in,
    )
    return FleetDispatcher(
        settings,
        run,
        options=options,
        next_epoch=next_epoch,
        notify=notify,
        fingerprint=fingerprint,
    )


def checkpoint_folder(settings: Settings, run: RunRecord) -> CheckpointFolder:
    """Name the folder of a run's checkpoints."""
    return CheckpointFolder(settings.runs_dir / run.uid)


def read_checkpoint_of(settings: Settings, run: RunRecord) -> Checkpoint | None:
    """Load a run's newest checkpoint; None when it has none."""
    found = checkpoint_folder(settings, run).read_newest()
    return found[0] if found is not None else None


class RunSession:
    """A context manager: lock, dispatcher and recorder of one run, and its final status.

    Args:
        database: open.
        settings: where everything is.
        run: the run as recorded.
        in_process: compute here, without a fleet.
        observer: watches.
        relaxed: go on although the arithmetic differs from what the run began with.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        run: RunRecord,
        *,
        in_process: bool,
        observer: Observer,
        relaxed: bool = False,
    ) -> None:
        self._database, self._settings, self._run = database, settings, run
        self._in_process, self._observer, self._relaxed = in_process, observer, relaxed
        self._config = ExperimentConfig.from_json(run.config, f"configuration of run {run.id}")
        self._fingerprint = json.dumps(run.fingerprint, sort_keys=True) if run.fingerprint else ""
        self._opened = ExitStack()
        self._recorder: Recorder | None = None

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self._lock(opening)
            self._spec = self._config.workload_spec(self._run.data_digest)
            self._workload = Workload.build(
                self._spec,
                data_dir=self._settings.data_dir,
                allowed_packages=self._settings.allowed_packages,
            )
            opening.callback(self._close_recorder)
            self._dispatcher = self._open_dispatcher()
            opening.callback(self._dispatcher.close)
            self.recorder.record_status(RunStatus.RUNNING)
            self._opened = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._opened:
            if not isinstance(error, FencedError):  # the run is another's now
                try:
                    status, text = _status_after(error)
                    self.recorder.record_status(status, error=text)
                except MetafleetError as failure:
                    log.warning("run=%d status not recorded: %s", self._run.id, failure)

    @property
    def recorder(self) -> Recorder:
        """The run's recorder; there from the first epoch on."""
        if self._recorder is None:
            self._next_epoch()
        assert self._recorder is not None
        return self._recorder

    def train(self) -> Trained:
        """Train to the end, from the newest checkpoint if there is one."""
        start = read_checkpoint_of(self._settings, self._run)
        if start is None:
            start = Checkpoint(Progress(step=0), self._workload.init_state(), {}, None)
        self._observer.on_start(
            RunStarted(
                run_id=self._run.id,
                name=self._run.name,
                first_step=start.progress.step,
                n_steps=self._config.outer.steps,
            )
        )
        loop = OuterLoop(
            self._config,
            self._spec,
            self._dispatcher,
            self.recorder,
            folder=checkpoint_folder(self._settings, self._run),
            observer=_OriginRecorder(self._observer, self._record_origin),
            batch_norm=self._workload.batch_norm,
        )
        return loop.run(start)

    def test(self, trained: Trained) -> list[EvaluationDone]:
        """Judge the trained state on meta-test, and the baselines beside it."""
        results = [self._judge(self._spec, trained.state, "trained", trained.step)]
        if not self._config.test.baselines:
            return results
        initial = self._workload.init_state()
        results.append(self._judge(self._spec, initial, "initialisation", 0))
        if self._config.episodes.n_way > 0:
            raw = self._config.model_copy(update={"learner": {"name": "nearest_prototype"}})
            spec = raw.workload_spec(self._run.data_digest)
            results.append(self._judge(spec, MetaState({}, {}), "nearest_prototype", 0))
        return results

    def _judge(self, spec: WorkloadSpec, state: MetaState, label: str, step: int) -> EvaluationDone:
        judgement = Judgement(
            META_TEST,
            label,
            step=step,
            n_episodes=self._config.test.episodes,
            batch_norm=self._workload.batch_norm if state.params else "none",
        )
        stream = f"test-{label}"
        done, outcome = judge_state(self._dispatcher, spec, state, judgement, stream=stream)
        self.recorder.record_evaluation(evaluation_record(done))
        self.recorder.record_jobs(job_records(stream, step, outcome))
        self._observer.on_evaluation(done)
        return done

    def _lock(self, opening: ExitStack) -> None:
        folder = self._settings.runs_dir / self._run.uid
        folder.mkdir(parents=True, exist_ok=True)
        try:
            opening.enter_context(FileLock(folder / "lock", timeout=0))
        except Timeout as error:
            raise RunLeasedError(
                f"run {self._run.id} is being run by another process of this host; stop that one "
                "first, or wait for its end"
            ) from error

    def _open_dispatcher(self) -> Dispatcher:
        dispatcher = open_dispatcher(
            self._settings,
            self._config,
            self._run.uid,
            in_process=self._in_process,
            next_epoch=self._next_epoch,
            notify=self._observer.on_notice,
            fingerprint=self._fingerprint,
            relaxed=self._relaxed,
        )
        is_strict = self._config.engine.numerics == "strict" and not self._relaxed
        if is_strict and self._fingerprint and self._in_process:
            self._require_same(dispatcher.fingerprint)
        return dispatcher

    def _require_same(self, fingerprint: str) -> None:
        if fingerprint != self._fingerprint:
            raise FingerprintError(
                f"run {self._run.id} began with arithmetic {self._fingerprint}, this process has "
                f"{fingerprint}; go on where it began, or give up the same bits with --relaxed"
            )

    def _next_epoch(self) -> int:
        if self._recorder is not None:
            return self._recorder.raise_epoch()
        with self._database.session() as session:
            epoch = RunRepository(session).next_epoch(self._run.id)
        self._recorder = Recorder(
            self._database,
            self._run.id,
            epoch=epoch,
            spill_path=self._settings.runs_dir / self._run.uid / "rows.jsonl",
        )
        return epoch

    def _close_recorder(self) -> None:
        if self._recorder is None:
            return
        try:
            if not self._recorder.close():
                self._observer.on_notice(
                    f"the database is away; rows wait in {self._settings.runs_dir / self._run.uid} "
                    f"until `metafleet runs resume {self._run.id}`"
                )
        except MetafleetError as error:
            log.warning("run=%d %s", self._run.id, error)

    def _record_origin(self) -> bool:
        """Write down whose arithmetic this is; False when the database is away."""
        text = self._dispatcher.fingerprint
        if text and text != self._fingerprint:
            try:
                with self._database.session() as session:
                    RunRepository(session).set_origin(
                        self._run.id, host=socket.gethostname(), fingerprint=json.loads(text)
                    )
            except DatabaseError as error:
                log.warning("run=%d origin not recorded yet: %s", self._run.id, error)
                return False
            self._fingerprint = text
        return True


class _OriginRecorder:
    """An observer that has the origin recorded after the first step, and passes everything on."""

    def __init__(self, observer: Observer, record: Callable[[], bool]) -> None:
        self._observer, self._record = observer, record
        self._is_recorded = False
        self.on_start = observer.on_start
        self.on_evaluation = observer.on_evaluation
        self.on_notice = observer.on_notice

    def on_step(self, event: StepDone) -> None:
        """Record the origin once, then pass the step on."""
        if not self._is_recorded:
            self._is_recorded = self._record()
        self._observer.on_step(event)


def _status_after(error: BaseException | None) -> tuple[RunStatus, str | None]:
    if error is None:
        return RunStatus.FINISHED, None
    if isinstance(error, KeyboardInterrupt):
        return RunStatus.INTERRUPTED, "interrupted; `metafleet runs resume` continues it"
    return RunStatus.FAILED, str(error) or type(error).__name__
