"""Reads the trials of a sweep from the database."""

from metafleet.db.engine import Database
from metafleet.db.repositories import RunRepository, SweepRepository
from metafleet.orchestrator.records.selecting import with_results
from metafleet.orchestrator.sweeps.trial import Trial


def trials_of(database: Database, sweep_id: int) -> list[Trial]:
    """Return the trials of a sweep, in the order of their numbers."""
    with database.session(read_only=True) as session:
        records = SweepRepository(session).trials(sweep_id)
        runs = RunRepository(session).list_of_sweep(sweep_id)
        entries = {entry.run.id: entry for entry in with_results(session, runs)}
    return [
        Trial(record, None if record.run_id is None else entries[record.run_id])
        for record in records
    ]
