"""Begins a sweep with the configurations of past runs on similar data."""

from metafleet.contracts.device import prepare_process
from metafleet.contracts.settings import Settings
from metafleet.orchestrator.cli.context import open_database, private_data
from metafleet.orchestrator.reporting.figures import counted
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.sweeps.plan import Plan
from metafleet.orchestrator.sweeps.warm_start import warm_started


def begin_warm(settings: Settings, plan: Plan) -> Plan:
    """Return the plan with the configurations that are tried first, and say where they come from.

    Raises:
        ConfigError: no result of past runs, or of the portfolio, is in the space of the sweep.
    """
    prepare_process("cpu")
    with private_data(settings), open_database(settings) as database:
        plan, known = warm_started(database, settings, plan)
    if known is None:
        return plan
    for note in known.notes:
        notify(note)
    origin = "results that Metafleet ships" if known.is_portfolio else "runs in the database"
    notify(
        f"the first {counted(len(plan.search.first), 'trial')} are those of "
        f"{counted(known.n_runs, 'run')} on {counted(known.n_sets, 'data set')} ({origin})"
    )
    return plan
