"""The table of the work that runs took."""

from collections.abc import Sequence

from metafleet.contracts.attempt_outcomes import AttemptOutcome
from metafleet.orchestrator.records.run_view import RunView
from metafleet.orchestrator.report.facts import ReportFacts
from metafleet.orchestrator.report.tables import ReportTable
from metafleet.orchestrator.report.words import DISCARDED
from metafleet.orchestrator.reporting.figures import duration

_TOO_LATE = (AttemptOutcome.LATE, AttemptOutcome.CANCELLED, AttemptOutcome.UNNEEDED)


def fleet_table(facts: ReportFacts) -> ReportTable:
    """Return the work of each run."""
    rows = [
        (
            group.title,
            str(view.run.seed),
            _wall(view),
            _mean_step(view),
            str(view.jobs.jobs) if view.jobs.jobs else "-",
            duration(view.jobs.compute_s) if view.jobs.jobs else "-",
            *_attempts(view),
            str(len(view.workers)) if view.attempt_totals else "in process",
        )
        for group in facts.groups
        for view in group.views
    ]
    columns = (
        *("runs", "seed", "wall time", "outer step", "jobs", "computing"),
        *("attempts", "discarded", "late", "backups", "workers"),
    )
    return ReportTable(
        "fleet",
        "The work of each run. Wall time is from the first start to the last end. An outer step is "
        "the mean time of one. Attempts are messages to workers; discarded ones failed, were lost "
        "or were refused, and late ones were no longer needed.",
        columns,
        tuple(rows),
        frozenset(range(1, len(columns))),
    )


def worker_rows(views: Sequence[RunView]) -> list[tuple[str, str, str, str]]:
    """Return worker, device, jobs and seconds of computing, over all runs."""
    found: dict[tuple[str, str], tuple[int, float]] = {}
    for view in views:
        for worker in view.workers:
            key = worker.worker, worker.device
            jobs, seconds = found.get(key, (0, 0.0))
            found[key] = jobs + worker.jobs, seconds + worker.compute_s
    ordered = sorted(found.items(), key=lambda item: -item[1][0])
    return [
        (worker, device, str(jobs), duration(seconds))
        for (worker, device), (jobs, seconds) in ordered
    ]


def _wall(view: RunView) -> str:
    began, ended = view.run.started_at, view.run.finished_at
    return duration((ended - began).total_seconds()) if began and ended else "-"


def _mean_step(view: RunView) -> str:
    if not view.steps:
        return "-"
    return f"{sum(step.step_s for step in view.steps) / len(view.steps):.2g} s"


def _attempts(view: RunView) -> tuple[str, str, str, str]:
    if not view.attempt_totals:
        return "-", "-", "-", "-"
    by_outcome: dict[str, int] = {}
    for total in view.attempt_totals:
        by_outcome[total.outcome] = by_outcome.get(total.outcome, 0) + total.n
    late = sum(by_outcome.get(outcome, 0) for outcome in _TOO_LATE)
    every = sum(by_outcome.get(outcome, 0) for outcome in DISCARDED)
    backups = sum(
        total.n
        for total in view.attempt_totals
        if total.outcome == AttemptOutcome.SENT and total.reason == "backup"
    )
    sent = by_outcome.get(AttemptOutcome.SENT, 0)
    return str(sent), str(every - late), str(late), str(backups)
