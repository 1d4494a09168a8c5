"""Readable results after each inner step."""

from typing import Final

import click
from rich.markup import escape
from rich.table import Table

from metafleet.data.scoring import score_name
from metafleet.db.records import InnerCurveRecord
from metafleet.orchestrator.cli.tables import make_table, show_table
from metafleet.orchestrator.records.run_view import RunView
from metafleet.orchestrator.reporting.figures import (
    contender,
    counted,
    percent,
    plus_minus,
    sparkline,
)
from metafleet.orchestrator.reporting.output import notify

_MOST_RATES: Final = 6


def inner_summary(view: RunView) -> str | None:
    """Return the newest inner curve in one line; None if there is none."""
    if not view.inner_curves:
        return None
    curve = view.inner_curves[-1]
    values = curve.query_accuracies or curve.query_losses
    first, last = (
        percent(value) if curve.query_accuracies else f"loss {value:.4f}"
        for value in (values[0], values[-1])
    )
    return f"{sparkline(values)} {first} before, {last} after {len(values) - 1} (`--inner-steps`)"


def rates_summary(view: RunView) -> str | None:
    """Return the range of the newest learned rates in one line; None if there are none."""
    if not view.inner_rates:
        return None
    newest = view.inner_rates[-1]
    n_steps = len(newest.rates) // len(newest.layers)
    return (
        f"{min(newest.rates):.4g} to {max(newest.rates):.4g} at outer step {newest.step}, learned "
        f"for {counted(len(newest.layers), 'tensor')} and {counted(n_steps, 'inner step')} "
        "(`--inner-steps`)"
    )


def show_inner_rates(view: RunView) -> None:
    """Print a table of the newest learned rates, if there are any."""
    if not view.inner_rates:
        return
    newest = view.inner_rates[-1]
    rates = newest.by_layer()
    n_steps = len(next(iter(rates.values())))
    chosen = sorted({round(i * (n_steps - 1) / (_MOST_RATES - 1)) for i in range(_MOST_RATES)})
    figures = [f"step {index + 1}" for index in chosen]
    table = make_table("tensor", *figures, right=tuple(figures), fold="tensor")
    for layer, of_layer in rates.items():
        table.add_row(escape(layer), *(f"{of_layer[index]:.4g}" for index in chosen))
    click.secho(
        f"learned inner rates at outer step {newest.step}; in Python, `run.inner_rates()` returns "
        "those of all recorded outer steps",
        bold=True,
    )
    show_table(table)


def show_inner_curves(view: RunView) -> None:
    """Print a table of each inner curve, or say that there is none."""
    if not view.inner_curves:
        notify(
            f"run {view.run.id} has no results after inner steps; `metafleet evaluate "
            f"{view.run.id} --inner-steps` adds them if its learner has inner steps"
        )
    metric = score_name(view.run.config.get("data", {}))
    for curve in view.inner_curves:
        click.secho(
            f"{curve.split}: {contender(curve.label)}, outer step {curve.step}, "
            f"{curve.episodes} episodes",
            bold=True,
        )
        show_table(_table_of(curve, metric))


def _table_of(curve: InnerCurveRecord, metric: str) -> Table:
    has_score = curve.query_accuracies is not None
    scores = (f"support {metric}", f"query {metric} (95 %)") if has_score else ()
    figures = ("inner step", *scores, "support loss", "query loss (95 %)")
    table = make_table(*figures, right=figures)
    for index, (loss, ci95) in enumerate(
        zip(curve.query_losses, curve.query_losses_ci95, strict=True)
    ):
        table.add_row(
            str(index),
            *(_scores(curve, index)),
            f"{curve.support_losses[index]:.4f}",
            plus_minus(loss, ci95),
        )
    return table


def _scores(curve: InnerCurveRecord, index: int) -> tuple[str, ...]:
    support, query, ci95 = (
        curve.support_accuracies,
        curve.query_accuracies,
        curve.query_accuracies_ci95,
    )
    if support is None or query is None or ci95 is None:
        return ()
    return percent(support[index]), percent(query[index], ci95[index])
