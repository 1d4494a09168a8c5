"""Small experiments for tests, and functions to run them and to read their results."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from metafleet.contracts.connections import connect
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.settings import Settings, child_environment
from metafleet.db.engine import Database
from metafleet.db.records import JobRecord, OuterStepRecord, RunRecord, RunStatus
from metafleet.db.repositories import JobRepository, OuterStepRepository, RunRepository
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.runs.launch import RunReport, create_runs, execute_run
from metafleet.orchestrator.runs.run_session import ExecutionOptions
from metafleet.orchestrator.training.events import EvaluationDone, RunStarted, StepDone
from tests.forks import Fork, run_metafleet
from tests.paths import REPOSITORY

SINUSOID: dict[str, Any] = {
    "name": "sinusoid",
    "seed": 3,
    "data": {"name": "sinusoid"},
    "episodes": {"n_way": 0, "k_shot": 5, "n_query": 5},
    "model": {"name": "mlp", "hidden": [16, 16]},
    "learner": {"name": "maml", "inner_lr": 0.01, "inner_steps": 2},
    "outer": {"steps": 12, "meta_batch_size": 10, "lr": 0.01, "schedule": "cosine"},
    "validation": {"every": 5, "episodes": 10},
    "test": {"episodes": 10, "baselines": True},
    "engine": {"episodes_per_job": 3, "checkpoint_every": 4},
}


def run_of(experiment: str) -> RunRecord:
    """A finished run of a file of ``experiments/``, in no database."""
    return RunRecord(
        id=1,
        uid="bcdfghjk",
        experiment_id=1,
        experiment=experiment,
        name=experiment,
        seed=1,
        status=RunStatus.FINISHED,
        config=ExperimentConfig.load(REPOSITORY / "experiments" / f"{experiment}.toml").to_json(),
        n_steps=40,
        created_at=datetime.now(UTC),
    )


def config(**sections: dict[str, Any]) -> ExperimentConfig:
    """The sinusoid experiment, with keys of some sections replaced."""
    tree = {**SINUSOID}
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return ExperimentConfig.from_json(tree)


@dataclass
class Watcher:
    """An observer that remembers."""

    steps: list[StepDone] = field(default_factory=list)
    evaluations: list[EvaluationDone] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    started: list[RunStarted] = field(default_factory=list)

    def on_start(self, event: RunStarted) -> None:
        self.started.append(event)

    def on_step(self, event: StepDone) -> None:
        self.steps.append(event)

    def on_evaluation(self, event: EvaluationDone) -> None:
        self.evaluations.append(event)

    def on_notice(self, text: str) -> None:
        self.notices.append(text)


class InterruptAt(Watcher):
    """A watcher that presses Ctrl-C when it has seen so many steps."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def on_step(self, event: StepDone) -> None:
        super().on_step(event)
        if len(self.steps) == self._step:
            raise KeyboardInterrupt


def new_run(settings: Settings, experiment: ExperimentConfig) -> RunRecord:
    with Database.open(settings.database_url) as database:
        return create_runs(database, settings, experiment, seeds=[experiment.seed])[0]


def execute(
    settings: Settings, run: RunRecord, *, in_process: bool = False, watcher: Watcher | None = None
) -> RunReport:
    with Database.open(settings.database_url) as database:
        return execute_run(
            database,
            settings,
            run.id,
            options=ExecutionOptions(in_process),
            observer=watcher or Watcher(),
        )


def undisturbed(settings: Settings, experiment: ExperimentConfig) -> str:
    """The sha256 that every execution of ``experiment`` must end with: run in this process."""
    quiet = replace(settings, home=settings.home / "undisturbed", database_url=_sqlite(settings))
    return execute(quiet, new_run(quiet, experiment), in_process=True).checkpoint_sha256


def _sqlite(settings: Settings) -> str:
    return f"sqlite:///{settings.home}/undisturbed.db"


def start_orchestrator(settings: Settings, run: RunRecord) -> Fork:
    """Run ``metafleet runs resume`` as a process of its own, to be killed."""
    return Fork(
        run_metafleet,
        ["runs", "resume", str(run.id), "--json"],
        environment=child_environment(settings),
        log=settings.home / "orchestrator.log",
    )


def sigkill(process: Fork) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_lease(settings: Settings, run: RunRecord) -> None:
    """End the lease of a run's dead owner, so that the next owner need not wait for its end."""
    with connect(str(settings.broker_url)) as client:
        client.delete(RunKeys(run.uid).lease)


def read_run(settings: Settings, run: RunRecord) -> RunRecord:
    with (
        Database.open(settings.database_url) as database,
        database.session(read_only=True) as session,
    ):
        return RunRepository(session).get(run.id)


def read_jobs(settings: Settings, run: RunRecord, stream: str = "train") -> Sequence[JobRecord]:
    with (
        Database.open(settings.database_url) as database,
        database.session(read_only=True) as session,
    ):
        return JobRepository(session).list(run.id, stream=stream)


def read_steps(settings: Settings, run: RunRecord) -> Sequence[OuterStepRecord]:
    with (
        Database.open(settings.database_url) as database,
        database.session(read_only=True) as session,
    ):
        return OuterStepRepository(session).list(run.id)


def assert_every_shard_once(settings: Settings, run: RunRecord, *, steps: int, shards: int) -> None:
    """Each (run, step, shard) has one row, and each step as many episodes as its shards together.

    The rows alone could not show a shard counted twice: the second would replace the first. A step
    counts the metrics that entered its mean.
    """
    jobs = read_jobs(settings, run)
    assert sorted((job.step, job.shard) for job in jobs) == [
        (step, shard) for step in range(1, steps + 1) for shard in range(shards)
    ]
    planned = ExperimentConfig.from_json(run.config).outer.meta_batch_size
    assert [step.episodes for step in read_steps(settings, run)] == [planned] * steps
