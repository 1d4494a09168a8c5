"""The control of a sweep while the database is away for a moment."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus, SweepRecord, TrialRecord
from metafleet.db.repositories import SweepQueue, SweepRepository
from metafleet.errors import DatabaseUnavailableError
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.service import sweep_control
from metafleet.orchestrator.sweeps import choice
from metafleet.orchestrator.sweeps.grammar import parse_space
from metafleet.orchestrator.sweeps.plan import Plan
from metafleet.orchestrator.sweeps.proposals import Search
from metafleet.orchestrator.sweeps.sweep import queue_sweep
from tests.databases import add_run
from tests.integration.orchestrator.cli.terminal import TINY
from tests.integration.orchestrator.tracking.rows import mark, record_evaluation


def take_trained(database: Database, settings: Settings) -> SweepRecord:
    """A sweep that a server has taken, and whose only trial has finished."""
    config = ExperimentConfig.from_json(tomllib.loads(TINY) | {"seed": 1})
    search = Search(parse_space(["outer.lr=0.1,0.2"]), "grid", 0)
    plan = Plan(name="s", config=config, search=search, n_trials=1, parallel=1)
    sweep = queue_sweep(database, settings, plan)
    run = add_run(database, name="s")
    record_evaluation(database, run, 3)
    mark(database, run, RunStatus.FINISHED)
    with database.session() as session:
        trial = TrialRecord(sweep_id=sweep.id, number=0, assigned={}, run_id=run.id)
        SweepRepository(session).add_trial(trial)
        taken = SweepQueue(session).take("a", may_take_over=True)
    assert taken is not None
    return taken


@pytest.mark.parametrize("at", ["test", "end"])
def test_a_database_that_is_away_at_the_end_does_not_fail_the_sweep(
    database: Database, home: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    settings = Settings.load()
    taken = take_trained(database, settings)
    outages: list[str] = []

    def fails_once(place: str) -> None:
        if place == at and not outages:
            outages.append(place)
            raise DatabaseUnavailableError("the database is down")

    def evaluate(*_: Any, **__: Any) -> None:
        fails_once("test")

    mark_status = SweepRepository.mark_status

    def end(self: SweepRepository, sweep_id: int, status: RunStatus, **names: Any) -> None:
        fails_once("end")
        mark_status(self, sweep_id, status, **names)

    monkeypatch.setattr(choice, "evaluate_run", evaluate)
    monkeypatch.setattr(SweepRepository, "mark_status", end)
    monkeypatch.setattr(sweep_control, "_AWAY_S", 0.0)
    order = {"sweep_id": taken.id, "owner": "a", "epoch": taken.epoch}
    sweep_control.control_sweep(database, settings, order, lambda: False)

    with database.session(read_only=True) as session:
        found = SweepRepository(session).get(taken.id)
    assert (found.status, found.error, found.deaths) == (RunStatus.FINISHED, None, 0)
    assert outages == [at]
