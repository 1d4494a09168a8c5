"""One execution of one run: opens everything it needs, and closes it in any case."""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from metafleet.contracts.code_used import describe_code
from metafleet.contracts.device import prepare_process
from metafleet.contracts.redaction import Redactor
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import AttemptCountRecord, RunRecord, RunStatus
from metafleet.db.repositories import CheckpointRepository, RunRepository
from metafleet.episode import META_TEST
from metafleet.errors import (
    BrokerUnavailableError,
    CheckpointError,
    DatabaseUnavailableError,
    FencedError,
    MetafleetError,
    NumericsError,
)
from metafleet.orchestrator.autotune.preparation import Preparation
from metafleet.orchestrator.autotune.work_size import settled
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.attempt_counts import AttemptRow
from metafleet.orchestrator.engine.dispatchers import open_dispatcher
from metafleet.orchestrator.engine.run_context import RunContext
from metafleet.orchestrator.engine.step import Dispatcher
from metafleet.orchestrator.recording.left_rows import spill_path
from metafleet.orchestrator.recording.recorder import Recorder
from metafleet.orchestrator.runs.lease import once_free
from metafleet.orchestrator.runs.provenance import ProvenanceRecorder, RunProvenance
from metafleet.orchestrator.runs.run_lock import run_lock
from metafleet.orchestrator.runs.tenure import CancelRequest, EpochWatch, Tenure
from metafleet.orchestrator.runs.user_code import describe_changes, describe_user_code
from metafleet.orchestrator.training.checkpoint import Checkpoint, CheckpointFolder
from metafleet.orchestrator.training.checkpoint_header import Terms, TrainingProgress
from metafleet.orchestrator.training.contenders import Contender, baselines_of
from metafleet.orchestrator.training.evaluation import (
    Judgement,
    episode_record,
    evaluation_record,
    job_records,
    judge_state,
)
from metafleet.orchestrator.training.events import EvaluationDone, Observer, RunStarted
from metafleet.orchestrator.training.inner_curve import (
    episodes_for,
    has_inner_curve,
    judge_inner_steps,
)
from metafleet.orchestrator.training.outer_loop import OuterLoop, Trained
from metafleet.workload import Workload

log = logging.getLogger(__name__)

_INTERRUPTED: Final = {
    RunStatus.INTERRUPTED: "interrupted; `metafleet runs resume` continues it",
}


def checkpoint_folder(settings: Settings, run: RunRecord) -> CheckpointFolder:
    """Return the folder of a run's checkpoints."""
    terms = {"config": run.config, "data_digest": run.data_digest}
    if run.calibration is not None:
        terms["calibration"] = run.calibration
    return CheckpointFolder(settings.runs_dir / run.uid, terms)


def get_checkpoint_of(
    settings: Settings, run: RunRecord, notify: Callable[[str], None]
) -> Checkpoint:
    """Load a run's newest intact checkpoint. ``notify`` receives a notice about damaged ones.

    Raises:
        CheckpointError: the run has no checkpoint on this host, or all its checkpoints are damaged.
            The message says how to get a checkpoint.
    """
    folder = checkpoint_folder(settings, run)
    found = folder.read_newest(notify)
    if found is not None:
        return found[0]
    if run.checkpoint_sha256 is None:
        raise CheckpointError(
            f"run {run.id} is {run.status.value} and has no checkpoint yet, nothing to take from "
            f"it; wait for its first one, or continue it with `metafleet runs resume {run.id}` if "
            "it is not being run"
        )
    raise CheckpointError(_elsewhere(run, str(folder), f"step {run.steps_done} or before"))


def _elsewhere(run: RunRecord, place: str, step: str) -> str:
    return (
        f"run {run.id} has a checkpoint of {step} at {place}, which is not here; resume it on "
        f"{run.host or 'the host it ran on'}, with the same METAFLEET_HOME, or begin again with "
        f"`metafleet runs resume {run.id} --from-start`"
    )


@dataclass(frozen=True, slots=True)
class ExecutionOptions:
    """Options for the execution of a run.

    Attributes:
        in_process: whether to compute in this process, without a fleet. The bits are the same as
            with a fleet.
        relaxed: whether to continue even if the arithmetic differs from the arithmetic at the run's
            start.
        from_start: whether to begin at step 0. The run's checkpoints are then set aside.
        tenure: the terms on which the run is executed; None if this process claims the run for
            itself.
    """

    in_process: bool
    relaxed: bool = False
    from_start: bool = False
    tenure: Tenure | None = None


class RunSession:
    """Holds the lock, the dispatcher and the recorder of a run, and records the run's end.

    Args:
        database: an open database.
        settings: locations of the broker, the data and the checkpoints.
        run: the run as read from the database.
        options: how to execute it.
        observer: receives the run's events.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        run: RunRecord,
        *,
        options: ExecutionOptions,
        observer: Observer,
    ) -> None:
        self._tenure = options.tenure or Tenure()
        self._watch = EpochWatch(run.id, self._is_ours)
        self._database, self._settings, self._run = database, settings, run
        self._options, self._observer = options, observer
        self._context = RunContext(
            settings, run.uid, options.in_process, observer.on_notice, self._check
        )
        asked = ExperimentConfig.from_json(run.config, f"configuration of run {run.id}")
        self._config = settled(asked, run)
        self._origin = RunProvenance(database, run)
        self._opened = ExitStack()
        self._recorder: Recorder | None = None

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            opening.enter_context(
                run_lock(self._settings, self._run, is_granted=self._tenure.is_granted)
            )
            self._spec = self._config.workload_spec(self._run.data_digest)
            self._workload = Workload.build(
                self._spec,
                data_dir=self._settings.data_dir,
                allowed_packages=self._settings.allowed_packages,
                cache_dir=self._settings.programs_dir,
            )
            prepare_process("cpu")  # for the outer update, wherever the shards are computed
            opening.push(self._close_recorder)
            self._tell_of_user_code()
            self._dispatcher = self._open_dispatcher()
            opening.callback(self._dispatcher.close)
            self.recorder.record_status(RunStatus.RUNNING)
            opening.callback(self._watch.stop)
            self._watch.start()
            self._opened = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ending = error
        try:
            self._record_end(error)
        except FencedError as fenced:  # cancelled or taken over at the last moment
            ending = error or fenced
        if ending is None:
            self._opened.__exit__(None, None, None)
            return
        self._opened.__exit__(type(ending), ending, ending.__traceback__)
        if error is None:
            raise ending

    def _record_end(self, error: BaseException | None) -> None:
        if isinstance(error, FencedError):
            return  # another process has the run now
        try:
            self._dispatcher.settle()
            status, text = self._status_after(error)
            self.recorder.record_status(status, error=text)
        except FencedError:
            raise
        except MetafleetError as failure:
            log.warning("run=%d status not recorded: %s", self._run.id, failure)

    @property
    def recorder(self) -> Recorder:
        """The run's recorder; opened with the first epoch."""
        if self._recorder is None:
            self._next_epoch(0)
        assert self._recorder is not None
        return self._recorder

    def _check(self) -> None:
        """Raise if the run was lost or is to be interrupted; called where this loses no work."""
        self._tell_notices()
        self._watch.check()
        if self._tenure.is_stopping():
            raise KeyboardInterrupt

    def _tell_of_user_code(self) -> None:
        """Say which of the user's packages differ from those with which the run was created."""
        now = describe_user_code(self._run.config, self._settings.allowed_packages)
        for text in describe_changes(self._run.user_code, now):
            self._observer.on_notice(text)

    def _tell_notices(self) -> None:
        for text in self.recorder.take_notices():
            self._observer.on_notice(text)

    def _is_ours(self) -> bool:
        return self.recorder.is_current()

    def train(self) -> Trained:
        """Train to the end; start from the newest checkpoint if there is one."""
        start, terms = self._starting_point(checkpoint_folder(self._settings, self._run))
        self._observer.on_start(
            RunStarted(
                run_id=self._run.id,
                name=self._run.name,
                first_step=start.progress.step,
                n_steps=self._config.outer.steps,
            )
        )
        self._prepare(start, terms)
        loop = OuterLoop(
            self._config,
            self._spec,
            self._dispatcher,
            self.recorder,
            folder=checkpoint_folder(self._settings, self._run),
            observer=ProvenanceRecorder(
                self._observer, lambda: self._origin.record(self._dispatcher.fingerprint)
            ),
            learner=self._workload.learner,
            batch_norm=self._workload.batch_norm,
        )
        return loop.run(start)

    def _starting_point(self, folder: CheckpointFolder) -> tuple[Checkpoint, Terms]:
        """Return the starting checkpoint, and the terms under which it was written."""
        folder.discard_torn()
        if self._options.from_start and (n := folder.set_aside()):
            self._observer.on_notice(f"begins at step 0; checkpoints set aside: {n}")
        found = folder.read_newest(self._observer.on_notice)
        if found is not None:
            return found[0], found[1].terms
        if not self._options.from_start:
            self._require_no_checkpoint()
        return Checkpoint(TrainingProgress(0), self._workload.init_state(), {}, None), {}

    def _prepare(self, start: Checkpoint, terms: Terms) -> None:
        """Measure the settings left at "auto", and compile the programs that the run needs."""
        preparation = Preparation(self._context, self._dispatcher)
        measured = preparation.settle(
            self._config, self._workload, start, self.recorder, known=terms.get("calibration")
        )
        if measured is not None:
            self._run = replace(self._run, calibration=measured)
            self._config = settled(self._config, self._run)
        self._spec = self._config.workload_spec(self._run.data_digest)
        preparation.warm_up(self._config, self._workload, start, self._spec)

    def _require_no_checkpoint(self) -> None:
        """Refuse to start at step 0 if the database has a checkpoint that is not on this host."""
        with self._database.session(read_only=True) as session:
            last = CheckpointRepository(session).find_last(self._run.id)
        if last is not None:
            raise CheckpointError(_elsewhere(self._run, last.path, f"step {last.step}"))

    def test(self, trained: Trained) -> list[EvaluationDone]:
        """Evaluate the trained state, and the baselines, on meta-test, unless it has 0 episodes."""
        if not self._config.test.episodes:
            return []
        own = Contender("trained", self._spec, trained.state, self._workload.batch_norm)
        results = [self._judge(own, step=trained.step)]
        self._judge_inner_steps(own, step=trained.step)
        if not self._config.test.baselines:
            return results
        for baseline in baselines_of(self._spec, self._workload):
            try:
                results.append(self._judge(baseline, step=0))
            except NumericsError as error:  # the trained state is unaffected
                self._observer.on_notice(f"the {baseline.label} cannot be judged: {error}")
        return results

    def _judge_inner_steps(self, contender: Contender, *, step: int) -> None:
        """Evaluate the state after each inner step, on some of the test's episodes."""
        if not has_inner_curve(self._workload):
            return
        judgement = self._judgement(contender, step=step)
        judgement = replace(judgement, n_episodes=episodes_for(judgement.n_episodes))
        stream = "test-inner"
        try:
            curve, outcome = judge_inner_steps(
                self._dispatcher,
                contender.spec,
                contender.state,
                judgement,
                n_inner_steps=self._workload.n_inner_steps,
                stream=stream,
            )
        except NumericsError as error:  # before the last inner step: the test is unaffected
            self._observer.on_notice(f"the inner steps cannot be judged: {error}")
            return
        self.recorder.record_inner_curve(curve)
        self.recorder.record_jobs(job_records(stream, step, outcome))

    def _judgement(self, contender: Contender, *, step: int) -> Judgement:
        return Judgement(
            META_TEST,
            contender.label,
            step=step,
            n_episodes=self._config.test.episodes,
            batch_norm=contender.batch_norm,
        )

    def _judge(self, contender: Contender, *, step: int) -> EvaluationDone:
        judgement = self._judgement(contender, step=step)
        stream = f"test-{contender.label}"
        done, outcome = judge_state(
            self._dispatcher, contender.spec, contender.state, judgement, stream=stream
        )
        self.recorder.record_evaluation(evaluation_record(done), episode_record(done, outcome))
        self.recorder.record_jobs(job_records(stream, step, outcome))
        self._observer.on_evaluation(done)
        return done

    def _open_dispatcher(self) -> Dispatcher:
        dispatcher = once_free(
            self._settings, self._run, self._take_dispatcher, notify=self._observer.on_notice
        )
        if self._config.engine.numerics == "strict" and not self._options.relaxed:
            self._origin.require_same_outer()
            self._origin.require_same(json.dumps(describe_code(self._spec)))
            if self._options.in_process:
                self._origin.require_same(dispatcher.fingerprint)
        return dispatcher

    def _take_dispatcher(self) -> Dispatcher:
        return open_dispatcher(
            self._context,
            self._config,
            next_epoch=self._next_epoch,
            fingerprint=self._origin.fingerprint,
            relaxed=self._options.relaxed,
            is_granted=self._tenure.is_granted,
            is_ours=self._is_ours,
            sink=self._record_attempts,
        )

    def _next_epoch(self, beyond: int) -> int:
        if self._recorder is not None:
            return self._recorder.raise_epoch(beyond)
        epoch = self._first_epoch()
        self._recorder = Recorder(
            self._database,
            self._run,
            epoch=epoch,
            owner=self._tenure.owner,
            spill_path=spill_path(self._settings, self._run.uid),
        )
        return epoch

    def _first_epoch(self) -> int:
        """Return the epoch that the queue granted. Without one, claim the run for a new epoch.

        Race prevented: after this process read the run's row, another process cancels the run or
        takes it over. The run then has another epoch. In this case, an error is raised, and this
        process does not begin the run.
        """
        with self._database.session() as session:
            runs = RunRepository(session)
            if self._tenure.epoch is None:
                return runs.claim(
                    self._run.id, seen_epoch=self._run.epoch, attach_to=self._tenure.owner
                )
            runs.hold(self._run.id, epoch=self._tenure.epoch)
            return self._tenure.epoch

    def _status_after(self, error: BaseException | None) -> tuple[RunStatus, str | None]:
        if error is None:
            return RunStatus.FINISHED, None
        if isinstance(error, CancelRequest):
            return RunStatus.CANCELLED, str(error)
        if isinstance(error, KeyboardInterrupt):
            return self._tenure.after_interrupt, _INTERRUPTED.get(self._tenure.after_interrupt)
        why = Redactor.of(self._settings)(str(error) or type(error).__name__)
        if isinstance(error, BrokerUnavailableError) and self._tenure.is_granted:
            return RunStatus.QUEUED, why  # temporary: servers wait for the broker
        return RunStatus.FAILED, why

    def _close_recorder(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Write all rows to the database, or raise with the file that has them."""
        if self._recorder is None:
            return
        try:
            is_whole = self._recorder.close()
            self._tell_notices()
            if not is_whole:
                raise DatabaseUnavailableError(
                    f"run {self._run.id} has ended, and rows of it wait in "
                    f"{spill_path(self._settings, self._run.uid)}: "
                    f"{self._recorder.status or 'the database does not answer'}; "
                    f"`metafleet runs show {self._run.uid}` writes them once it is back"
                )
        except MetafleetError as failure:
            if error is None:  # rows not written, or run cancelled or taken over: not finished
                raise
            self._observer.on_notice(str(failure))

    def _record_attempts(
        self, attempts: Sequence[AttemptRow], counts: Sequence[AttemptCountRecord]
    ) -> None:
        self.recorder.record_attempts(attempts, counts)
