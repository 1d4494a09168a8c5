"""Broken workers, a broken Redis, two orchestrators: the bits are those of the undisturbed run."""

import signal
import threading
from collections.abc import Callable

import pytest

from contracts.connections import connect
from contracts.settings import Settings
from db.records import RunRecord
from metafleet.errors import FencedError, RunLeasedError
from orchestrator.launch import RunReport
from tests.fleet import Fleet, wait_until
from tests.redis_server import RedisServer
from tests.runs import (
    Watcher,
    assert_every_shard_once,
    config,
    execute,
    new_run,
    undisturbed,
)

STEPS = 10
EXPERIMENT = config(
    outer={"steps": STEPS},
    # long enough a job to be hit in the middle
    learner={"inner_steps": 30},
    validation={"every": 0},
    test={"baselines": False},
)


class Running:
    """A run in a thread of its own, so that the test can break things meanwhile."""

    def __init__(self, settings: Settings, run: RunRecord) -> None:
        self.watcher = Watcher()
        self._outcome: list[RunReport | BaseException] = []
        self._thread = threading.Thread(target=self._execute, args=(settings, run))
        self._thread.start()

    def _execute(self, settings: Settings, run: RunRecord) -> None:
        try:
            self._outcome.append(execute(settings, run, watcher=self.watcher))
        except BaseException as error:
            self._outcome.append(error)

    def wait_for_step(self, step: int) -> None:
        wait_until(lambda: len(self.watcher.steps) >= step or self._outcome, f"step {step}", 60)

    def result(self) -> RunReport:
        self._thread.join(120)
        assert self._outcome, "the run did not end within two minutes"
        if isinstance(self._outcome[0], BaseException):
            raise self._outcome[0]
        return self._outcome[0]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("expected")
    return undisturbed(Settings.load({"METAFLEET_HOME": str(home)}), EXPERIMENT)


Break = Callable[[Fleet, RedisServer], None]


def kill_a_worker(fleet: Fleet, server: RedisServer) -> None:
    fleet.workers[0].kill()


def freeze_a_worker_for_good(fleet: Fleet, server: RedisServer) -> None:
    fleet.workers[0].send(signal.SIGSTOP)


def ask_a_worker_to_leave(fleet: Fleet, server: RedisServer) -> None:
    fleet.workers[0].send(signal.SIGTERM)
    fleet.workers[0].process.wait(30)


def kill_all_workers_then_start_one(fleet: Fleet, server: RedisServer) -> None:
    for worker in fleet.workers:
        worker.kill()
    fleet.start(1)


def restart_redis_empty(fleet: Fleet, server: RedisServer) -> None:
    server.kill()
    server.start()


def lose_every_queued_message(fleet: Fleet, server: RedisServer) -> None:
    with server.client() as client:
        client.delete("mf:inner.cpu")


def lose_every_wakeup(fleet: Fleet, server: RedisServer) -> None:
    with server.client() as client:
        for _ in range(50):
            for key in client.scan_iter("*:replies"):
                client.delete(key)


@pytest.mark.parametrize(
    "break_something",
    [
        kill_a_worker,
        freeze_a_worker_for_good,
        ask_a_worker_to_leave,
        kill_all_workers_then_start_one,
        restart_redis_empty,
        lose_every_queued_message,
        lose_every_wakeup,
    ],
)
def test_a_disturbed_run_ends_with_the_same_bits(
    fleet: Fleet, redis_server: RedisServer, expected: str, break_something: Break
) -> None:
    fleet.start(2)
    run = new_run(fleet.settings, EXPERIMENT)
    running = Running(fleet.settings, run)
    running.wait_for_step(3)

    break_something(fleet, redis_server)

    assert running.result().checkpoint_sha256 == expected
    assert_every_shard_once(fleet.settings, run, steps=STEPS, shards=4)


def test_a_redis_that_hangs_is_waited_for_and_said_to_hang(
    fleet: Fleet, redis_server: RedisServer, expected: str
) -> None:
    fleet.start(2)
    run = new_run(fleet.settings, EXPERIMENT)
    running = Running(fleet.settings, run)
    running.wait_for_step(3)

    redis_server.freeze()
    wait_until(lambda: running.watcher.notices, "a notice that Redis hangs", 40)
    redis_server.thaw()

    assert running.result().checkpoint_sha256 == expected
    assert "does not answer" in running.watcher.notices[0]
    assert_every_shard_once(fleet.settings, run, steps=STEPS, shards=4)


def test_without_workers_a_run_pauses_and_says_how_to_start_one(
    fleet: Fleet, expected: str
) -> None:
    run = new_run(fleet.settings, EXPERIMENT)
    running = Running(fleet.settings, run)
    wait_until(lambda: running.watcher.notices, "a notice that nobody works", 20)
    assert "celery -A workers.app worker" in running.watcher.notices[0]

    fleet.start(1)

    assert running.result().checkpoint_sha256 == expected


def test_a_second_orchestrator_is_refused_with_the_name_of_the_first(
    fleet: Fleet, expected: str
) -> None:
    fleet.start(1)
    run = new_run(fleet.settings, EXPERIMENT)
    running = Running(fleet.settings, run)
    running.wait_for_step(2)

    with pytest.raises(RunLeasedError, match=f"run {run.id} is being run by another process"):
        execute(fleet.settings, run)

    assert running.result().checkpoint_sha256 == expected


def test_an_orchestrator_whose_run_was_taken_over_stops(fleet: Fleet) -> None:
    fleet.start(1)
    run = new_run(fleet.settings, EXPERIMENT)
    running = Running(fleet.settings, run)
    running.wait_for_step(2)

    with connect(str(fleet.settings.broker_url)) as client:
        client.set(f"mf:{{{run.uid}}}:epoch", 99)

    with pytest.raises(FencedError, match="taken over"):
        running.result()
