"""Conducts a sweep whose trials are executed by servers."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import RunRepository, SweepRepository
from metafleet.errors import FencedError, RunNotFoundError
from metafleet.orchestrator.sweeps.sweep import Sweep
from metafleet.orchestrator.sweeps.trial import Trial

_LOOK_EVERY_S: Final = 0.5


def leave_to_servers(
    database: Database,
    sweep: Sweep,
    *,
    show: Callable[[Trial], None],
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Keep ``plan.parallel`` trials open (queued or running) until all trials have ended.

    Args:
        database: an open database.
        sweep: the sweep.
        show: called with each trial that ends.
        pause: waits for the given number of seconds.

    Raises:
        FencedError: another process controls the sweep, or the sweep was cancelled.
    """
    known = {trial.number for trial in sweep.trials() if trial.has_ended}
    n_trials, parallel = sweep.plan.n_trials, sweep.plan.parallel or 1
    while True:
        with database.session() as session:
            SweepRepository(session).hold(sweep.record.id, epoch=sweep.record.epoch)
        trials = sweep.trials()
        for trial in trials:
            if trial.has_ended and trial.number not in known:
                known.add(trial.number)
                show(trial)
            run = trial.run
            if run is not None and run.status in (RunStatus.INTERRUPTED, RunStatus.CREATED):
                _queue(database, run)
        n_open = sum(not trial.has_ended for trial in trials)
        if not n_open and len(trials) >= n_trials:
            return
        for _ in range(min(parallel - n_open, n_trials - len(trials))):
            sweep.add_trial(detached=True)
        pause(_LOOK_EVERY_S)


def _queue(database: Database, run: RunRecord) -> None:
    """Queue a run, unless another process has resumed or deleted it meanwhile."""
    with suppress(FencedError, RunNotFoundError), database.session() as session:
        runs = RunRepository(session)
        runs.hold(run.id, epoch=run.epoch)
        runs.mark_status(run.id, RunStatus.QUEUED)
