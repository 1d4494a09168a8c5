"""Readable engine counters of a run: attempts sent, counted, lost, refused; degraded steps."""

from collections.abc import Sequence

from rich.table import Table

from metafleet.contracts.attempt_outcomes import AttemptOutcome
from metafleet.db.records import AttemptTotal, OuterStepRecord
from metafleet.orchestrator.cli.tables import make_facts
from metafleet.orchestrator.engine.shard_names import name_shards
from metafleet.orchestrator.reporting.figures import counted

_MEANINGS = {
    AttemptOutcome.FAILED: "failed at their worker",
    AttemptOutcome.LOST: "lost",
    AttemptOutcome.REFUSED: "refused by their worker",
    AttemptOutcome.REJECTED: "rejected results",
    AttemptOutcome.MISSING: "without their tensors",
    AttemptOutcome.LATE: "late results",
    AttemptOutcome.CANCELLED: "cancelled",
    AttemptOutcome.UNNEEDED: "dropped unstarted",
}
_MOST_STEPS = 5


def engine_facts(totals: Sequence[AttemptTotal], steps: Sequence[OuterStepRecord]) -> Table | None:
    """Make a table of the counters that are not zero; None if the run used no fleet."""
    if not totals:
        return None
    by_outcome = {outcome: _of(totals, outcome) for outcome in AttemptOutcome}
    sent, counting = by_outcome[AttemptOutcome.SENT], by_outcome[AttemptOutcome.COUNTED]
    made = sum(sent.values())
    table = make_facts()
    table.add_row(
        "engine",
        f"{counted(made, 'attempt')} made, {sum(counting.values())} counted; "
        f"{sent.get('again', 0)} sent again, {counted(sent.get('backup', 0), 'backup')}",
    )
    for outcome, meaning in _MEANINGS.items():
        reasons = by_outcome[outcome]
        if reasons:
            table.add_row("", f"{sum(reasons.values())} {meaning} ({_by_reason(reasons)})")
    table.add_row("degraded", _degraded(steps))
    return table


def _of(totals: Sequence[AttemptTotal], outcome: AttemptOutcome) -> dict[str, int]:
    return {total.reason: total.n for total in totals if total.outcome == outcome}


def _by_reason(reasons: dict[str, int]) -> str:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason.replace('_', ' ') or 'other'} {n}" for reason, n in ordered)


def _degraded(steps: Sequence[OuterStepRecord]) -> str:
    degraded = [step for step in steps if step.degraded]
    if not degraded:
        return "no step"
    lines = [
        f"step {step.step}: without {name_shards(step.missing_shards)} "
        f"({counted(step.missing_episodes, 'episode')})"
        for step in degraded[:_MOST_STEPS]
    ]
    if len(degraded) > _MOST_STEPS:
        lines.append(f"... {counted(len(degraded), 'step')} in all")
    return "\n".join(lines)
