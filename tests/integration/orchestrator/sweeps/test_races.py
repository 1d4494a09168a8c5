"""Sweeps whose rows other processes change in between."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus, SweepRecord, TrialRecord
from metafleet.db.repositories import (
    EvaluationRepository,
    RunRepository,
    ServerRepository,
    SweepQueue,
    SweepRepository,
    evaluations,
)
from metafleet.errors import FencedError
from metafleet.orchestrator.client.silent_observer import SilentObserver
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.sweeps import choice
from metafleet.orchestrator.sweeps.conducting import leave_to_servers
from metafleet.orchestrator.sweeps.grammar import parse_space
from metafleet.orchestrator.sweeps.plan import Plan
from metafleet.orchestrator.sweeps.proposals import Search
from metafleet.orchestrator.sweeps.sweep import Sweep, open_sweep, queue_sweep
from metafleet.orchestrator.sweeps.trial import Trial
from metafleet.orchestrator.sweeps.trials import trials_of
from metafleet.splits import META_TEST
from tests.databases import add_run
from tests.integration.orchestrator.cli.terminal import TINY
from tests.integration.orchestrator.recording.rows import evaluation
from tests.integration.orchestrator.tracking.rows import mark, record_evaluation


@pytest.fixture
def plan() -> Plan:
    config = ExperimentConfig.from_json(tomllib.loads(TINY) | {"seed": 1})
    space = parse_space(["outer.lr=0.1,0.2"])
    return Plan(name="s", config=config, search=Search(space, "grid", 0), n_trials=1, parallel=1)


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.load()


def add_trial(database: Database, sweep: SweepRecord, *, number: int = 0) -> RunRecord:
    run = add_run(database, name="s", seed=number)
    with database.session() as session:
        trial = TrialRecord(sweep_id=sweep.id, number=number, assigned={}, run_id=run.id)
        SweepRepository(session).add_trial(trial)
    return run


def test_a_trial_that_a_server_adds_while_a_command_looks_is_kept(
    postgres_url: str, plan: Plan, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Database.open(postgres_url) as database:
        sweep = queue_sweep(database, settings, plan)
        find = SweepRepository.find

        def find_slowly(self: SweepRepository, ref: int | str) -> SweepRecord | None:
            found = find(self, ref)
            monkeypatch.setattr(SweepRepository, "find", find)
            with database.session() as session:
                ServerRepository(session).beat("server", host="h", pid=1, max_runs=1)
                assert SweepQueue(session).take("server", may_take_over=True) is not None
            add_trial(database, sweep)
            return found

        monkeypatch.setattr(SweepRepository, "find", find_slowly)
        with pytest.raises(FencedError, match="another process controls it now"):
            open_sweep(database, settings, plan)

        assert [trial.number for trial in trials_of(database, sweep.id)] == [0]


def test_a_trial_that_another_process_resumes_does_not_stop_the_sweep(
    database: Database, plan: Plan, settings: Settings
) -> None:
    sweep = open_sweep(database, settings, plan)
    run_id = add_trial(database, sweep.record).id

    class Resumed(Sweep):
        """The trial is resumed, and then finished, by another process."""

        def trials(self) -> list[Trial]:
            found = super().trials()
            with database.session() as session:
                runs = RunRepository(session)
                runs.claim(run_id, seen_epoch=runs.get(run_id).epoch, attach_to="other")
                runs.mark_status(run_id, next(statuses))
            return found

    statuses = iter([RunStatus.INTERRUPTED, RunStatus.RUNNING, *3 * [RunStatus.FINISHED]])
    ended: list[Trial] = []
    resumed = Resumed(database, settings, plan, sweep.record)
    leave_to_servers(database, resumed, show=ended.append, pause=lambda _: None)

    assert [trial.status for trial in ended] == ["finished"]


def test_pruned_trials_of_a_large_sweep_are_read(
    database: Database, plan: Plan, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluations, "_MOST_IDS", 1)
    sweep = open_sweep(database, settings, plan)
    runs = [add_trial(database, sweep.record, number=number) for number in range(2)]
    for run in (*runs, add_run(database)):
        record_evaluation(database, run, 3)
    with database.session() as session:
        for run in runs:
            SweepRepository(session).note_pruned(run.id, step=3)

    assert [list(trial.by_step) for trial in sweep.trials()] == [[3], [3]]


def test_a_shorter_test_by_hand_is_not_that_of_the_sweep(
    database: Database, plan: Plan, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = open_sweep(database, settings, plan)
    run = add_trial(database, sweep.record)
    record_evaluation(database, run, 3)
    mark(database, run, RunStatus.FINISHED)
    by_hand = replace(evaluation(3), split=META_TEST, episodes=plan.config.test.episodes - 1)
    with database.session() as session:
        EvaluationRepository(session).upsert_many(run.id, [by_hand])

    def evaluate(*_: Any, episodes: int, **__: Any) -> None:
        with database.session() as session:
            found = replace(by_hand, episodes=episodes)
            EvaluationRepository(session).upsert_many(run.id, [found])

    monkeypatch.setattr(choice, "evaluate_run", evaluate)
    observer = SilentObserver()
    found = choice.judge_best(
        database, settings, plan, sweep.trials(), in_process=True, observer=observer
    )

    assert found.test is not None and found.test.episodes == plan.config.test.episodes
