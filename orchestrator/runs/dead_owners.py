"""Settles runs whose process died without recording it: killed, or lost in a reboot."""

import logging
from contextlib import suppress

from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import RunRepository
from metafleet.errors import FencedError, MetafleetError
from metafleet.orchestrator.runs.process_name import has_died

log = logging.getLogger(__name__)


def settle_dead_runs(database: Database) -> None:
    """Mark an attached run of this machine as interrupted if its process no longer exists.

    Detached runs are not changed, because the servers take them over. If the change cannot be
    written now, no error is raised, so that a command that only reads does not fail. The next
    command then tries again to write the change.
    """
    try:
        with database.session(read_only=True) as session:
            attached = RunRepository(session).list_attached()
        for run in attached:
            if run.owner is not None and has_died(run.owner):
                _mark_interrupted(database, run, f"its process {run.owner.split('/')[0]} died")
    except MetafleetError as error:
        log.warning("runs whose process died stay as they are: %s", error)


def _mark_interrupted(database: Database, run: RunRecord, why: str) -> None:
    error = f"{why}; `metafleet runs resume {run.id}` goes on from its last checkpoint"
    with suppress(FencedError), database.session() as session:  # another process may have taken it
        runs = RunRepository(session)
        runs.hold(run.id, epoch=run.epoch)
        if runs.get(run.id).owner == run.owner:
            runs.mark_status(run.id, RunStatus.INTERRUPTED, error=error)
