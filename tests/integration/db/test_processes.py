"""Several processes at one database, and processes that die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metafleet.db.engine import Database, status
from metafleet.db.repositories import JobRepository, OuterStepRepository
from tests.databases import add_run
from tests.paths import REPOSITORY
from tests.postgres import PostgresServer

OPEN = "from metafleet.db.engine import upgrade; import sys; upgrade(sys.argv[1])"

RAISE_EPOCH = """
import sys
from metafleet.db.engine import Database
from metafleet.db.repositories import RunRepository
with Database.open(sys.argv[1]) as database:
    for _ in range(25):
        with database.session() as session:
            print(RunRepository(session).next_epoch(1))
"""

WRITE_FOR_EVER = """
import sys
from itertools import count
from metafleet.db.engine import Database
from metafleet.db.repositories import JobRepository, OuterStepRepository
from tests.databases import make_jobs, make_step
with Database.open(sys.argv[1]) as database:
    for step in count(1):
        with database.session() as session:
            OuterStepRepository(session).upsert_many(1, [make_step(step)])
            if step == 50:
                print("half a batch", flush=True)
                sys.stdin.read()
            JobRepository(session).upsert_many(1, make_jobs(step))
        print(step, flush=True)
"""


def test_processes_that_upgrade_at_once_do_not_collide(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    for url in (f"sqlite:///{tmp_path}/new/x.db", postgres.new_database()):
        processes = [_start(OPEN, url) for _ in range(3)]

        assert [process.wait(60) for process in processes] == [0] * 3
        assert status(url).is_current


def test_no_two_processes_get_the_same_epoch(database: Database, database_url: str) -> None:
    add_run(database)
    processes = [_start(RAISE_EPOCH, database_url) for _ in range(3)]

    epochs = [int(line) for process in processes for line in process.communicate()[0].split()]
    assert sorted(epochs) == list(range(1, 76))


@pytest.mark.parametrize("in_transaction", [True, False])
def test_a_killed_writer_loses_at_most_its_open_batch(
    database: Database, database_url: str, in_transaction: bool
) -> None:
    run = add_run(database)
    process = _start(WRITE_FOR_EVER, database_url)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == ("half a batch" if in_transaction else "30"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    deadline = time.monotonic() + 10  # PostgreSQL notices the death of a client a little later
    while True:
        with database.session() as session:
            steps = OuterStepRepository(session).list(run.id)
            jobs = JobRepository(session).list(run.id)
        if len(jobs) == 4 * len(steps) or time.monotonic() > deadline:
            break
    assert len(steps) == 49 if in_transaction else len(steps) >= 30
    assert len(jobs) == 4 * len(steps)
    with database.session() as session:  # nothing is locked
        OuterStepRepository(session).upsert_many(run.id, steps)


def _start(program: str, url: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", program, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
