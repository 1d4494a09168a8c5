"""The rows of deleted checkpoints, of runs that wrote very many."""

from dataclasses import asdict

from metafleet.db.engine import Database
from metafleet.db.records import CHECKPOINTS
from metafleet.db.repositories import CheckpointRepository
from metafleet.orchestrator.runs.pruning import _forget_checkpoints
from tests.databases import add_run
from tests.integration.orchestrator.recording.rows import checkpoint

N_CHECKPOINTS = 70_000
"""More than PostgreSQL's largest number of parameters of a statement, 65535."""


def test_more_rows_are_deleted_than_a_statement_may_have_parameters(postgres_url: str) -> None:
    with Database.open(postgres_url) as database:
        run = add_run(database)
        with database.session() as session:
            same = asdict(checkpoint(0)) | {"run_id": run.id}
            rows = [same | {"step": step, "path": f"{step}"} for step in range(N_CHECKPOINTS)]
            session.execute(CHECKPOINTS.insert(), rows)
        paths = {f"{step}" for step in range(1, N_CHECKPOINTS)}
        with database.session() as session:
            _forget_checkpoints(session, run, paths)
            kept = CheckpointRepository(session).list(run.id)

    assert [row.step for row in kept] == [N_CHECKPOINTS - 1, 0]
