"""`metafleet sweeps show`: the trials of a sweep, the best first."""

import click

from metafleet.db.repositories import SweepRepository
from metafleet.orchestrator.cli.context import echo_json, load_settings, open_database
from metafleet.orchestrator.cli.sweep_report import document, show_choice, show_trials
from metafleet.orchestrator.records.run_view import without_nan
from metafleet.orchestrator.reporting.figures import counted
from metafleet.orchestrator.sweeps.choice import find_choice
from metafleet.orchestrator.sweeps.study import LEAST_TRIALS, importances_of
from metafleet.orchestrator.sweeps.sweep import Sweep, settle_dead_sweeps


@click.command("show")
@click.argument("name")
@click.option("--all", "shows_all", is_flag=True, help="Show all trials, not only the best 20.")
@click.option(
    "--importance",
    "shows_importance",
    is_flag=True,
    help="Estimate how much each key matters, by PED-ANOVA of Optuna (extra `sweep`).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(name: str, *, shows_all: bool, shows_importance: bool, as_json: bool) -> None:
    """Show the trials of the sweep NAME, the best first, and what was chosen.

    \b
    metafleet sweeps show sinusoid-maml-sweep
    """
    settings = load_settings()
    with open_database(settings) as database:
        settle_dead_sweeps(database)
        with database.session(read_only=True) as session:
            record = SweepRepository(session).get(name)
        plan = Sweep.of_record(database, settings, record).plan
        trials = Sweep.of_record(database, settings, record).trials()
        choice = find_choice(database, trials)
    importances = importances_of(plan, trials) if shows_importance else None
    if as_json:
        state = {"status": record.status, "error": record.error, "importance": importances}
        echo_json(without_nan(document(plan, trials, choice) | state))
        return
    owner = f" by {record.owner.split('/')[0]}" if record.owner else ""
    why = f": {record.error}" if record.error else ""
    n_ended = sum(trial.has_ended for trial in trials)
    click.echo(
        f"sweep {record.name} ({plan.search.sampler}) is {record.status}{owner}{why}; {n_ended} of "
        f"{counted(plan.n_trials, 'trial')} ended"
    )
    if trials:
        show_trials(plan, trials, most=len(trials) if shows_all else None)
    if choice is not None:
        show_choice(plan, trials, choice)
    if shows_importance:
        _show_importances(importances)


def _show_importances(importances: dict[str, float] | None) -> None:
    if importances is None:
        click.echo(f"importance: fewer than {LEAST_TRIALS} trials have finished")
        return
    click.echo("importance for being among the best tenth (PED-ANOVA; shares that sum to 1):")
    for key, share in importances.items():
        click.echo(f"  {share:.2f}  {key}")
