"""A database that executes a request whose answer is lost on the way."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import RunRepository
from metafleet.errors import DatabaseUnavailableError
from metafleet.orchestrator.service import server as server_module
from metafleet.orchestrator.service.server import Server, ServerEvent
from tests.databases import new_run
from tests.redis_server import RedisServer


class LosesAnAnswer(Database):
    """Takes the connection away right after the run was taken."""

    n_lost, give_up_s = 0, math.inf

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Connection]:
        assert time.monotonic() < self.give_up_s, "the run has no owner although its server lives"
        with super().session(read_only=read_only) as session:
            yield session
        if not read_only and not self.n_lost and self.read(1).status is RunStatus.RUNNING:
            self.n_lost += 1
            raise DatabaseUnavailableError("the connection broke before the answer came")

    def read(self, run_id: int) -> RunRecord:
        with super().session(read_only=True) as session:
            return RunRepository(session).get(run_id)


class NoProcess:
    """Stands for the process that executes a run."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.pid, self.log_path = settings, 1, Path("log")

    def begin(self, run: RunRecord) -> None:
        self.run = run

    def ended(self) -> None:
        return None

    def terminate(self) -> None:
        """Nothing to end."""

    def wait_or_kill(self, deadline: float) -> None:
        """Nothing to kill."""


def test_a_run_that_was_taken_without_an_answer_is_executed_all_the_same(
    standing_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "RunProcess", NoProcess)
    monkeypatch.setattr(server_module, "_STOP_WITHIN_S", 0.0)
    settings = replace(
        Settings.load({"METAFLEET_HOME": str(tmp_path)}), broker_url=standing_redis.url
    )

    def report(event: ServerEvent) -> None:
        if event.kind == "began":
            raise KeyboardInterrupt

    with LosesAnAnswer.open(f"sqlite:///{tmp_path}/metafleet.db") as database:
        with database.session() as session:
            run = RunRepository(session).add(replace(new_run(), detached=True))

        database.give_up_s = time.monotonic() + 20.0
        with pytest.raises(KeyboardInterrupt):
            Server(database, lambda: settings, max_runs=1, report=report).run()

        database.give_up_s = math.inf
        ended = database.read(run.id)
        assert database.n_lost == 1
        assert (ended.status, ended.epoch, ended.deaths) == (RunStatus.QUEUED, 2, 0)
