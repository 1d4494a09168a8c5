"""`metafleet runs compare`: is one run, or group of runs, better than another?"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Connection

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.repositories.evaluations import TRAINED, EvaluationRepository
from metafleet.orchestrator.cli.arguments import OutputFile
from metafleet.orchestrator.cli.context import echo_json, load_settings, open_records
from metafleet.orchestrator.cli.tables import make_table, show_rows
from metafleet.orchestrator.client.records import Records
from metafleet.orchestrator.records.arms import Arm, find_arms
from metafleet.orchestrator.records.comparison import (
    RESULT_OF,
    Comparison,
    Contrast,
    Figure,
    find_unjudged,
)
from metafleet.orchestrator.records.entry import Entry
from metafleet.orchestrator.records.literals import shown
from metafleet.orchestrator.records.paired import Paired
from metafleet.orchestrator.records.run_view import without_nan
from metafleet.orchestrator.reporting.figures import counted, figure
from metafleet.orchestrator.reporting.output import notify
from metafleet.splits import META_TEST, META_VAL

_MOST_KEYS: Final = 20
_WIDEST_VALUE: Final = 40
_EPISODES: Final = 600
"""Number of episodes for runs that were not tested and whose configuration has no test."""


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option(
    "--split", type=click.Choice([META_TEST, META_VAL]), default=META_TEST, show_default=True
)
@click.option(
    "--evaluate", is_flag=True, help="If a run lacks results of single episodes, evaluate it again."
)
@click.option("--in-process", is_flag=True, help="With --evaluate: compute in this process.")
@click.option(
    "--curves",
    type=OutputFile(".png"),
    help="Draw the meta-validations of all into this file (.png).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compare(
    runs: Sequence[str],
    *,
    split: str,
    evaluate: bool,
    in_process: bool,
    curves: Path | None,
    as_json: bool,
) -> None:
    """Compare runs or groups of runs. Each further run or group is compared with the first one.

    A group consists of runs that differ only in the seed. An id or uid stands for one run. A name
    stands for the group of the newest run with that name: all runs with that name that differ from
    the newest one only in the seed. A filter in quotes (as for `runs list --where`) stands for the
    group of all matching runs. If a run or group cannot be compared, the exit status is 1.

    \b
    metafleet runs compare 12 13
    metafleet runs compare baseline lr-0.01
    metafleet runs compare 'outer.lr=0.1' 'outer.lr=0.01' --curves curves.png
    """
    if in_process and not evaluate:
        raise click.UsageError("--in-process goes with --evaluate; add --evaluate")
    settings = load_settings()
    with open_records(settings, runs[0]) as database:
        if evaluate:
            with database.session(read_only=True) as session:
                unjudged = find_unjudged(session, find_arms(session, runs), split)
            if unjudged:
                _evaluate(database, settings, unjudged, split, in_process=in_process)
        found = Records(database, settings).compare(*runs, split=split)
        if curves is not None:
            with database.session(read_only=True) as session:
                _draw(session, curves, found)
    if as_json:
        echo_json(without_nan(_document(found)))
    else:
        _show(found)
        if curves is not None:
            click.echo(str(curves))
    if any(contrast.problem for contrast in found.contrasts):
        raise click.exceptions.Exit(1)


def _evaluate(
    database: Database,
    settings: Settings,
    entries: Sequence[Entry],
    split: str,
    *,
    in_process: bool,
) -> None:
    """Evaluate runs on as many episodes as they were before, or as their configuration says."""
    # imported here: most comparisons need no learning core
    from metafleet.orchestrator.cli.broker import require_fleet  # noqa: PLC0415
    from metafleet.orchestrator.cli.progress import watching  # noqa: PLC0415
    from metafleet.orchestrator.runs.evaluate_run import evaluate_run  # noqa: PLC0415

    if not in_process:
        require_fleet(settings)
    for entry in entries:
        section = "test" if split == META_TEST else "validation"
        known = entry.results.get(RESULT_OF[split])
        episodes = known.episodes if known else entry.run.config[section]["episodes"] or _EPISODES
        with watching(has_steps=False) as observer:
            evaluate_run(
                database,
                settings,
                entry.run.uid,
                split=split,
                episodes=episodes,
                in_process=in_process,
                observer=observer,
            )


def _draw(session: Connection, path: Path, found: Comparison) -> None:
    # imported here: it imports the learning core
    from metafleet.orchestrator.runs.compared_curves import draw_validations  # noqa: PLC0415

    repository = EvaluationRepository(session)
    validations = {
        arm.name: [
            repository.list(entry.run.id, split=META_VAL, label=TRAINED) for entry in arm.runs
        ]
        for arm in found.arms
    }
    draw_validations(path, validations, is_score=found.metric == "score")


def _show(found: Comparison) -> None:
    names = [f"{_letter(index)} {arm.name}" for index, arm in enumerate(found.arms)]
    show_rows(_results(found, names))
    if found.keys:
        show_rows(_keys(found))
    show_rows(_contrasts(found))
    for index, contrast in enumerate(found.contrasts, start=1):
        text = contrast.problem or contrast.note
        if text:
            notify(f"{_letter(index)} against A: {text}")
    tested = [contrast for contrast in found.contrasts if contrast.of_episodes is not None]
    if len(tested) > 1:
        notify(f"p is corrected for {len(tested)} comparisons (Holm)")
    if any(contrast.of_seeds is None for contrast in tested):
        notify(
            "one seed: this compares two trained states, and says nothing about other seeds; "
            "train more with `metafleet submit --seeds 1,2,3`"
        )


def _results(found: Comparison, names: Sequence[str]) -> Table:
    headings = ("seeds", f"{found.split} (95 %)")
    table = make_table("runs", "id", *headings, right=headings, fold="runs", least_width=10)
    for name, arm, one in zip(names, found.arms, found.figures, strict=True):
        ids = " ".join(str(entry.run.id) for entry in arm.runs)
        table.add_row(escape(name), ids, str(len(arm.runs)), _figure(one))
    return table


def _figure(one: Figure | None) -> str:
    return "-" if one is None else figure(one.value, one.ci95, is_share=one.is_share)


def _keys(found: Comparison) -> Table:
    letters = [_letter(index) for index in range(len(found.arms))]
    table = make_table("key", *letters, fold="key", least_width=10)
    for key, values in list(found.keys.items())[:_MOST_KEYS]:
        cells = ["-" if value is None else f"{shown(value):.{_WIDEST_VALUE}}" for value in values]
        table.add_row(escape(key), *map(escape, cells))
    if len(found.keys) > _MOST_KEYS:
        table.add_row(f"... {counted(len(found.keys), 'key')} in all", *("" for _ in letters))
    return table


def _contrasts(found: Comparison) -> Table:
    figures = ("difference", "95 % interval", "p")
    headings = ("run", "pairs", *figures, "against A")
    table = make_table(*headings, right=figures, fold="against A", least_width=10)
    for index, contrast in enumerate(found.contrasts, start=1):
        for noun, one in (("episode", contrast.of_episodes), ("seed", contrast.of_seeds)):
            if one is not None:
                table.add_row(_letter(index), counted(one.n, noun), *_cells(found, one))
        if contrast.of_episodes is None:
            table.add_row(_letter(index), "none", "-", "-", "-", "not compared")
    return table


def _cells(found: Comparison, one: Paired) -> tuple[str, str, str, str]:
    unit, digits = (100, 2) if found.metric == "score" else (1, 4)
    sign = " %" if found.metric == "score" else ""
    mean = f"{unit * one.mean:+.{digits}f}"
    interval = p = "not defined"
    if one.p is not None and one.low is not None and one.high is not None:
        interval = " to ".join(f"{unit * end:+.{digits}f}" for end in (one.low, one.high)) + sign
        p = "< 0.0001" if one.p < 0.0001 else f"{one.p:.4f}"
    verdict = found.verdict(one)
    style = {"better": "green", "worse": "red"}.get(verdict, "")
    shown_verdict = f"[{style}]{verdict}[/]" if style else verdict
    return f"{mean}{sign}", interval, p, shown_verdict


def _letter(index: int) -> str:
    """Return A, B ... Z, then the number of the arm."""
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def _document(found: Comparison) -> dict[str, Any]:
    return {
        "split": found.split,
        "metric": found.metric,
        "arms": [
            _arm_document(arm, one) for arm, one in zip(found.arms, found.figures, strict=True)
        ],
        "keys": {key: list(values) for key, values in found.keys.items()},
        "against_first": [_contrast_document(found, contrast) for contrast in found.contrasts],
    }


def _arm_document(arm: Arm, one: Figure | None) -> dict[str, Any]:
    return {
        "name": arm.name,
        "runs": [entry.run.id for entry in arm.runs],
        "seeds": [entry.run.seed for entry in arm.runs],
        "result": asdict(one) if one else None,
    }


def _contrast_document(found: Comparison, contrast: Contrast) -> dict[str, Any]:
    document = asdict(contrast)
    for name in ("of_episodes", "of_seeds"):
        one: Paired | None = getattr(contrast, name)
        if one is not None:
            document[name]["verdict"] = found.verdict(one)
    return document
