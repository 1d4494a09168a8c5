"""Executes the trials of a sweep: in this process one after the other, or by servers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from filelock import FileLock, Timeout

from metafleet.contracts.settings import Settings, make_folder
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import RunRepository, ServerRepository
from metafleet.errors import ConfigError, NumericsError
from metafleet.orchestrator.cli.execution import execute_watched
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.run_session import ExecutionOptions
from metafleet.orchestrator.sweeps.sweep import Sweep, Trial

_LOOK_EVERY_S: Final = 0.5


@contextmanager
def only_process(settings: Settings, name: str) -> Iterator[None]:
    """Hold the lock of a sweep during the block.

    Raises:
        ConfigError: another process of this host executes the sweep.
    """
    folder = settings.home / "sweeps"
    make_folder(folder, "the folder of sweeps")
    try:
        with FileLock(folder / f"{name}.lock", timeout=0):
            yield
    except Timeout as error:
        raise ConfigError(
            f"sweep {name!r} is being executed by another process; wait for its end, or choose "
            "another --name"
        ) from error


def execute_here(
    database: Database,
    settings: Settings,
    sweep: Sweep,
    *,
    n_trials: int,
    in_process: bool,
) -> None:
    """Finish the open trials, then add and execute trials until there are ``n_trials``.

    If a loss or gradient of a trial is not finite, the trial counts as failed and the sweep
    continues. Other errors stop the sweep.
    """
    while True:
        trials = sweep.trials()
        is_open = [trial.run for trial in trials if not trial.has_ended]
        if not is_open and len(trials) >= n_trials:
            return
        run = is_open[0] if is_open else sweep.add_trial(detached=False)
        try:
            execute_watched(database, settings, run, options=ExecutionOptions(in_process))
        except NumericsError as error:
            notify(f"run {run.id} failed, and the sweep goes on: {error}")


def leave_to_servers(
    database: Database,
    sweep: Sweep,
    *,
    n_trials: int,
    parallel: int,
    show: Callable[[Trial], None],
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Keep ``parallel`` trials open (queued or running) until ``n_trials`` trials have ended.

    Args:
        database: an open database.
        sweep: the sweep.
        n_trials: number of trials that the complete sweep has.
        parallel: maximum number of open trials at a time.
        show: called with each trial that ends.
        pause: waits for the given number of seconds.
    """
    with database.session(read_only=True) as session:
        if not ServerRepository(session).list_alive():
            notify("no server is running; start one with `metafleet serve`")
    known = {trial.number for trial in sweep.trials() if trial.has_ended}
    while True:
        trials = sweep.trials()
        for trial in trials:
            if trial.has_ended and trial.number not in known:
                known.add(trial.number)
                show(trial)
            if trial.run.status in (RunStatus.INTERRUPTED, RunStatus.CREATED):
                _queue(database, trial.run)
        n_open = sum(not trial.has_ended for trial in trials)
        if not n_open and len(trials) >= n_trials:
            return
        for _ in range(min(parallel - n_open, n_trials - len(trials))):
            sweep.add_trial(detached=True)
        pause(_LOOK_EVERY_S)


def _queue(database: Database, run: RunRecord) -> None:
    with database.session() as session:
        runs = RunRepository(session)
        runs.hold(run.id, epoch=run.epoch)
        runs.mark_status(run.id, RunStatus.QUEUED)
