"""Learners that never return."""

from dataclasses import replace

import pytest

from metafleet.errors import ShardQuarantinedError
from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests.fleet import Fleet
from tests.running import EXPERIMENT, ONE_SHARD, ROWS, STEPS, Row, Running
from tests.runs import read_run, undisturbed

JOB_DEADLINE_S = 4.0
PREFORK = ("--pool", "prefork", "--concurrency", "2")


@pytest.fixture(autouse=True)
def tests_may_be_built(fleet: Fleet) -> None:
    fleet.settings = replace(fleet.settings, allowed_packages=("tests",))


def experiment(way: str, of: ExperimentConfig = EXPERIMENT) -> ExperimentConfig:
    learner = {"name": "tests.faults.poison:Poison", "way": way}
    engine = {"job_deadline_s": JOB_DEADLINE_S, "max_attempts": 2}
    return of.model_copy(update={"learner": learner, "engine": of.engine.model_copy(update=engine)})


def test_a_worker_whose_job_hangs_once_ends_and_its_shard_goes_to_another(fleet: Fleet) -> None:
    fleet.start(2)
    running = Running(fleet.settings, experiment("hang_once"))

    running.result()

    assert sum(step.retries for step in running.watcher.steps) == 1
    (hung,) = [worker for worker in fleet.workers if worker.process.poll() is not None]
    assert hung.process.returncode == 1
    log = hung.log.read_text()
    assert "Timeout" in log
    assert "in _hang" in log
    assert any("shard" in text and "hung" in text for text in running.watcher.notices)
    running.assert_undisturbed(
        undisturbed(fleet.settings, experiment("none")),
        "learner hangs once",
        "process ended, shard sent to another worker",
    )


def test_a_pool_replaces_the_child_whose_job_hangs_with_the_interpreter_lock(fleet: Fleet) -> None:
    (worker,) = fleet.start(1, *PREFORK)
    running = Running(fleet.settings, experiment("hang_gil_once"))

    running.result()

    assert worker.process.poll() is None
    running.assert_undisturbed(
        undisturbed(fleet.settings, experiment("none")),
        "learner hangs once with the interpreter lock",
        "child replaced, shard sent again",
    )


def test_a_learner_that_always_hangs_stops_the_run_and_the_deadline_is_named(fleet: Fleet) -> None:
    fleet.start(1, *PREFORK)
    running = Running(fleet.settings, experiment("hang", ONE_SHARD))

    limit = f"engine.job_deadline_s={JOB_DEADLINE_S:g}"
    with pytest.raises(
        ShardQuarantinedError, match=f"failed 2 times .it hung: no result after {limit}"
    ):
        running.result()

    run = read_run(fleet.settings, running.run)
    assert run.status.value == "failed"
    ROWS.append(Row("learner always hangs", "stopped after max_attempts, reason named", None, None))
    assert len(running.watcher.steps) < STEPS
