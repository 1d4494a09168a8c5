"""Executes the trials of a sweep in this process, one after the other."""

from functools import partial

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.errors import NumericsError, RunCancelledError
from metafleet.orchestrator.cli.execution import execute_watched
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.run_session import ExecutionOptions
from metafleet.orchestrator.runs.tenure import CancelRequest
from metafleet.orchestrator.sweeps.pruning import pruned
from metafleet.orchestrator.sweeps.sweep import Sweep


def execute_here(
    database: Database, settings: Settings, sweep: Sweep, *, in_process: bool, hint: str
) -> None:
    """Finish the open trials, then add and execute trials until there are ``plan.n_trials``.

    If a loss or gradient of a trial is not finite, the trial counts as failed and the sweep
    continues. If the configuration of a trial is refused, or its run is cancelled, the sweep
    continues too. Other errors stop the sweep. After Ctrl-C, ``hint`` tells how to continue.
    """
    while True:
        trials = sweep.trials()
        is_open = [trial.run for trial in trials if trial.run is not None and not trial.has_ended]
        if not is_open and len(trials) >= sweep.plan.n_trials:
            return
        run = is_open[0] if is_open else sweep.add_trial(detached=False)
        if run is None:
            refused = next(t for t in reversed(sweep.trials()) if t.record.refused)
            notify(f"trial {refused.number} is refused, and the sweep goes on: {refused.why_ended}")
            continue
        try:
            execute_watched(
                database,
                settings,
                run,
                options=ExecutionOptions(in_process),
                hint=hint,
                wrap=partial(pruned, database, run.id),
            )
        except CancelRequest as reason:
            notify(f"run {run.id} is {reason}; the sweep goes on")
        except NumericsError as error:
            notify(f"run {run.id} failed, and the sweep goes on: {error}")
        except RunCancelledError:
            notify(f"run {run.id} was cancelled, and the sweep goes on")
