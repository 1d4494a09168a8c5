"""Workers that die, hang, crawl and leave."""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
import redis

from metafleet.contracts.connections import connect
from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.keys import queue_list
from metafleet.orchestrator.engine.publisher import Publisher
from tests.fleet import Fleet, WorkerProcess, wait_until
from tests.redis_server import RedisServer
from tests.running import SHARDS, STEPS, Running
from tests.runs import read_jobs


def test_a_worker_killed_in_a_job(
    fleet: Fleet, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, _ = fleet.start(2)
    sent_again_s = _note_when_sent_again(monkeypatch)
    running = Running(fleet.settings)
    killed_s: list[float] = []

    running.disturb(lambda: killed_s.append(_kill_in_a_job(fleet, victim)))

    assert running.result().steps == STEPS
    assert any(step.retries for step in running.watcher.steps)
    waited_s = next(at_s for at_s in sent_again_s if at_s > killed_s[0]) - killed_s[0]
    running.assert_undisturbed(
        expected, "worker SIGKILLed mid-job", f"shard sent again after {waited_s:.1f} s, same seed"
    )


def test_an_idle_worker_frozen_with_a_message_then_killed(fleet: Fleet, expected: str) -> None:
    # a worker's request for a message ends after a second, and a frozen worker makes no other
    code = "from kombu.transport.redis import Transport\nTransport.brpop_timeout = 3600\n"
    frozen, _ = fleet.start(2, environment=_with_start_code(fleet, code))
    wait_until(lambda: fleet.n_waiting() == 2, "workers blocked on the queue")
    # blocked on the queue, it gets the next message from Redis and never wakes to start it
    frozen.send(signal.SIGSTOP)
    running = Running(fleet.settings)

    running.disturb(lambda: _kill_once_it_holds_a_message(frozen, running), after_step=0)

    assert running.result().steps == STEPS
    assert any(step.retries for step in running.watcher.steps)
    running.assert_undisturbed(
        expected, "idle worker frozen, job popped, killed", "message found lost, sent again"
    )


def test_a_worker_stopped_for_a_while_and_continued(fleet: Fleet, expected: str) -> None:
    frozen, _ = fleet.start(2)
    running = Running(fleet.settings)

    running.disturb(lambda: _freeze_in_a_job(fleet, frozen))
    wait_until(lambda: any(step.retries for step in running.watcher.steps), "another attempt", 90)
    frozen.send(signal.SIGCONT)

    running.assert_undisturbed(
        expected, "worker SIGSTOPped, later SIGCONT", "another attempt won, late result dropped"
    )


def test_a_slow_worker(fleet: Fleet, expected: str) -> None:
    slow, _ = fleet.start(2)
    running = Running(fleet.settings)
    running.wait_for_step(2)

    with _crawling(slow):
        running.disturb(lambda: None)
        running.result()

    attempts = [job.attempt for job in read_jobs(fleet.settings, running.run)]
    running.assert_undisturbed(expected, "worker a tenth as fast", "backups within the budget")
    assert sum(attempts) - len(attempts) <= 10  # at most one a step


def test_a_worker_asked_to_leave(fleet: Fleet, expected: str) -> None:
    leaving, _ = fleet.start(2)
    running = Running(fleet.settings)

    running.disturb(lambda: leaving.send(signal.SIGTERM))
    leaving.process.wait(30)

    running.assert_undisturbed(expected, "SIGTERM to a worker", "ended its job and left")


def test_all_workers_killed_and_one_started_later(fleet: Fleet, expected: str) -> None:
    fleet.start(2)
    running = Running(fleet.settings)

    running.disturb(lambda: [worker.kill() for worker in fleet.workers])
    wait_until(lambda: running.watcher.notices, "the notice that there are no workers")
    fleet.start(1)

    assert "metafleet worker --device cpu" in running.watcher.notices[0]
    running.assert_undisturbed(expected, "all workers gone, one comes", "paused, said so, went on")


def test_no_workers_at_all(fleet: Fleet, expected: str) -> None:
    running = Running(fleet.settings)
    wait_until(lambda: running.watcher.notices, "the notice that there are no workers")

    fleet.start(1)

    assert "metafleet worker --device cpu" in running.watcher.notices[0]
    running.assert_undisturbed(expected, "no workers at all", "paused, said how to start one")


def test_a_worker_whose_clock_is_a_day_ahead(
    fleet: Fleet, redis_server: RedisServer, expected: str
) -> None:
    code = "import time\n_time = time.time\ntime.time = lambda: _time() + 86_400\n"
    fleet.start(1, environment=_with_start_code(fleet, code))

    running = Running(fleet.settings)

    running.assert_undisturbed(expected, "worker's clock a day ahead", "nothing: no clock is read")


def _note_when_sent_again(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A list of the times at which the orchestrator of this process sends a shard once more."""
    times_s: list[float] = []
    send = Publisher.send

    def note(self: Publisher, jobs: Iterable[tuple[InnerLoopJob, str]]) -> None:
        sent = list(jobs)
        send(self, sent)
        times_s.extend(time.monotonic() for job, _ in sent if job.attempt)

    monkeypatch.setattr(Publisher, "send", note)
    return times_s


def _kill_in_a_job(fleet: Fleet, victim: WorkerProcess) -> float:
    """Kill a worker while it holds the lease of an attempt; returns when, by our clock."""
    with connect(str(fleet.settings.broker_url)) as client:
        wait_until(lambda: _holds_a_lease(client, victim), "the victim in a job")
        killed_s = time.monotonic()
        victim.kill()
    return killed_s


def _freeze_in_a_job(fleet: Fleet, worker: WorkerProcess) -> None:
    """Stop a worker while it holds the lease of an attempt."""
    with connect(str(fleet.settings.broker_url)) as client:

        def is_frozen_in_a_job() -> bool:
            if not _holds_a_lease(client, worker):
                return False
            worker.send(signal.SIGSTOP)
            time.sleep(0.02)  # what the worker has sent arrives
            if _holds_a_lease(client, worker):
                return True
            worker.send(signal.SIGCONT)
            return False

        wait_until(is_frozen_in_a_job, "the worker in a job")


def _holds_a_lease(client: redis.Redis, worker: WorkerProcess) -> bool:
    owners = [client.get(key) or b"" for key in client.scan_iter("*:lease:*")]
    return any(f":{worker.pid}/".encode() in owner for owner in owners)


def _kill_once_it_holds_a_message(frozen: WorkerProcess, running: Running) -> None:
    """The first step waits for the frozen worker's shard alone: then it has the message."""
    waiting = queue_list("inner.cpu", running.settings.signing_key)
    with connect(str(running.settings.broker_url)) as client:
        started = f"mf:{{{running.run.uid}}}:train:e1:1:started"

        def only_one_is_missing() -> bool:
            is_seen = int(client.hlen(started)) == SHARDS - 1 and client.llen(waiting) == 0
            return is_seen or bool(running.watcher.steps)  # it was, but we were not there to see it

        wait_until(only_one_is_missing, "all shards but the frozen worker's begun")
        frozen.kill()


def _with_start_code(fleet: Fleet, code: str) -> dict[str, str]:
    """Return an environment in which Python runs ``code`` before it starts a worker."""
    site = fleet.settings.home / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}


@contextmanager
def _crawling(worker: WorkerProcess) -> Iterator[None]:
    """Let a process run a tenth of the time, in bursts that keep its leases alive."""
    ended = threading.Event()

    def crawl() -> None:
        while not ended.is_set():
            worker.send(signal.SIGSTOP)
            ended.wait(0.45)
            worker.send(signal.SIGCONT)
            ended.wait(0.05)

    thread = threading.Thread(target=crawl)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        worker.send(signal.SIGCONT)
