"""`metafleet sweeps list`: all sweeps, the newest first."""

import click

from metafleet.db.records import SweepRecord
from metafleet.db.repositories import SweepRepository
from metafleet.orchestrator.cli.context import echo_json, is_unused, load_settings, open_database
from metafleet.orchestrator.cli.run_words import STATUS_STYLES
from metafleet.orchestrator.cli.tables import make_table, show_rows
from metafleet.orchestrator.sweeps.sweep import settle_dead_sweeps
from metafleet.orchestrator.sweeps.trial import Trial
from metafleet.orchestrator.sweeps.trials import trials_of


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per sweep.")
def list_sweeps(as_json: bool) -> None:
    """List all sweeps, the newest first.

    \b
    metafleet sweeps list
    """
    settings = load_settings()
    found: list[tuple[SweepRecord, list[Trial]]] = []
    if not is_unused(settings):
        with open_database(settings) as database:
            settle_dead_sweeps(database)
            with database.session(read_only=True) as session:
                sweeps = SweepRepository(session).list()
            found = [(sweep, trials_of(database, sweep.id)) for sweep in sweeps]
    if as_json:
        for sweep, trials in found:
            echo_json(_document(sweep, trials))
    elif found:
        _show(found)
    else:
        click.echo("no sweeps yet; begin one with `metafleet sweep`")


def _document(sweep: SweepRecord, trials: list[Trial]) -> dict[str, object]:
    ended = sum(trial.has_ended for trial in trials)
    return {"sweep": sweep.name, "status": sweep.status.value, "ended": ended} | {
        "trials": sweep.n_trials,
        "over": sweep.plan["over"],
        "sampler": sweep.plan["sampler"],
        "owner": sweep.owner,
        "error": sweep.error,
    }


def _show(found: list[tuple[SweepRecord, list[Trial]]]) -> None:
    figures = ("ended", "trials")
    table = make_table("name", "status", *figures, "sampler", "over", right=figures, fold="over")
    for sweep, trials in found:
        style = STATUS_STYLES.get(sweep.status, "default")
        ended = sum(trial.has_ended for trial in trials)
        table.add_row(
            sweep.name,
            f"[{style}]{sweep.status}[/]",
            f"{ended}",
            f"{sweep.n_trials}",
            sweep.plan["sampler"],
            "\n".join(sweep.plan["over"]).replace("[", r"\["),
        )
    show_rows(table)
