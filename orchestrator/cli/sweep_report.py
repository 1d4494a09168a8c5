"""Shows a sweep: its trials, the best first, and what was chosen."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import click
from rich.markup import escape

from metafleet.db.records import EvaluationRecord
from metafleet.orchestrator.cli.run_words import STATUS_STYLES
from metafleet.orchestrator.cli.tables import make_table, show_rows
from metafleet.orchestrator.records.literals import shown
from metafleet.orchestrator.reporting.figures import counted, figure
from metafleet.orchestrator.reporting.output import notify, program
from metafleet.orchestrator.sweeps.choice import Choice
from metafleet.orchestrator.sweeps.plan import Plan
from metafleet.orchestrator.sweeps.trial import Trial

_MOST_SHOWN: Final = 20


def say_ended(trial: Trial) -> None:
    """Print one line about a trial that ended."""
    result = trial_result(trial) if trial.score is not None else trial.status
    values = ", ".join(f"{key}={shown(value)}" for key, value in trial.values.items())
    run = f" (run {trial.run.id})" if trial.run else ""
    why = f": {trial.why_ended}" if trial.score is None and trial.why_ended else ""
    notify(f"trial {trial.number}{run}: {values}: {result}{why}")


def show_trials(plan: Plan, trials: Sequence[Trial], *, most: int | None = None) -> None:
    """Print a table of the trials, the best first: the first ``most``, by default 20."""
    most = most or _MOST_SHOWN
    figures = ("trial", "run", *plan.keys, "best (meta_val)")
    table = make_table(*figures, "status", right=figures)
    for trial in sorted(trials, key=_rank)[:most]:
        style = STATUS_STYLES.get(trial.run.status, "default") if trial.run else "red"
        cells = [f"{trial.number}", f"{trial.run.id}" if trial.run else "-"]
        cells += [_cell(trial.values[key]) if key in trial.values else "-" for key in plan.keys]
        table.add_row(*cells, trial_result(trial), f"[{style}]{trial.status}[/]")
    show_rows(table)
    if len(trials) > most:
        click.echo(f"{len(trials) - most} more are in `{program()} sweeps show {plan.name} --all`")
    for trial in [one for one in trials if one.record.refused][:1]:
        click.echo(f"trial {trial.number} was refused: {trial.why_ended}")


def show_choice(plan: Plan, trials: Sequence[Trial], choice: Choice) -> None:
    """Print what was chosen, from how many, and its meta-test."""
    best = choice.best
    click.echo(
        f"best of {counted(len(trials), 'configuration')}{_ends(trials)} by meta_val: "
        f"trial {best.number}"
    )
    if choice.test is not None:
        click.echo(f"meta_test of this trial alone: {_test_result(choice.test)}")
    if choice.others_tested:
        numbers = ", ".join(map(str, choice.others_tested))
        click.echo(
            f"meta_test was also computed for trial {numbers}, chosen before there were more "
            "trials: report how many configurations were tested"
        )
    if best.run is not None:
        click.echo(
            f"train it with other seeds: {program()} runs clone {best.run.id} "
            f"--set test.episodes={plan.config.test.episodes or 600} --seeds 1,2,3"
        )


def document(plan: Plan, trials: Sequence[Trial], choice: Choice | None) -> dict[str, Any]:
    """Return a sweep as JSON values."""
    best = choice.best if choice else None
    return {
        "sweep": plan.name,
        "objective": "meta_val",
        "over": [str(parameter) for parameter in plan.search.space],
        "sampler": plan.search.sampler,
        "seed": plan.search.seed,
        "trials": [
            {"trial": trial.number, "run": trial.run.id if trial.run else None}
            | {"status": trial.status, "why": trial.why_ended, "values": trial.values}
            | {
                "best": trial.entry.value("best") if trial.entry else None,
                "best_ci95": trial.entry.value("best.ci95") if trial.entry else None,
            }
            for trial in trials
        ],
        "best": best
        and {"trial": best.number, "run": best.run and best.run.id} | {"values": best.values},
        "meta_test": asdict(choice.test) if choice and choice.test else None,
        "others_tested": list(choice.others_tested) if choice else [],
    }


def trial_result(trial: Trial) -> str:
    """Format the best meta-validation of a trial, with its interval."""
    value = None if trial.entry is None else trial.entry.value("best")
    if trial.entry is None or value is None:
        return "-"
    is_share = trial.entry.is_share("best")
    return figure(value, trial.entry.value("best.ci95"), is_share=is_share)


def _test_result(test: EvaluationRecord) -> str:
    is_share = test.accuracy is not None
    value = test.loss if test.accuracy is None else test.accuracy
    interval = test.loss_ci95 if test.accuracy is None else test.accuracy_ci95
    return f"{figure(value, interval, is_share=is_share)} ({test.episodes} episodes)"


def _ends(trials: Sequence[Trial]) -> str:
    """Describe how the trials without a result ended: " (2 refused, 1 failed)"."""
    without = [trial.status for trial in trials if trial.score is None]
    counts = [f"{without.count(status)} {status}" for status in dict.fromkeys(without)]
    return f" ({', '.join(counts)})" if counts else ""


def _rank(trial: Trial) -> tuple[bool, float, int]:
    return trial.score is None, -(trial.score or 0.0), trial.number


def _cell(value: Any) -> str:
    return escape(f"{value:.6g}" if isinstance(value, float) else shown(value))
