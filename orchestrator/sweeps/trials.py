"""Reads the trials of a sweep from the database."""

from metafleet.db.engine import Database
from metafleet.db.repositories import EvaluationRepository, RunRepository, SweepRepository
from metafleet.orchestrator.records.score import score_of
from metafleet.orchestrator.records.selecting import with_results
from metafleet.orchestrator.sweeps.trial import Trial
from metafleet.splits import META_VAL


def trials_of(database: Database, sweep_id: int) -> list[Trial]:
    """Return the trials of a sweep, in the order of their numbers."""
    with database.session(read_only=True) as session:
        records = SweepRepository(session).trials(sweep_id)
        runs = RunRepository(session).list_of_sweep(sweep_id)
        entries = {entry.run.id: entry for entry in with_results(session, runs)}
        pruned = {record.run_id: record.pruned_step for record in records if record.pruned_step}
        ids = [run_id for run_id in pruned if run_id is not None]
        curves = EvaluationRepository(session).list_curves(ids, split=META_VAL) if ids else {}
    by_step = {
        run_id: {one.step: score_of(one) for one in rows if one.step <= (pruned[run_id] or 0)}
        for run_id, rows in curves.items()
    }
    return [
        Trial(record, entries.get(record.run_id or 0), by_step.get(record.run_id or 0, {}))
        for record in records
    ]
