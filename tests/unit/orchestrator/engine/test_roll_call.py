"""Workers that take jobs, that only look alive, and that are idle because no job waits."""

from dataclasses import replace
from typing import Any

import pytest

from metafleet.contracts.job import PROTOCOL_VERSION
from metafleet.contracts.presence import WorkerInfo
from metafleet.orchestrator.engine import roll_call
from metafleet.orchestrator.engine.roll_call import STARVES_AFTER_S, RollCall

QUEUES = ("inner.gpu", "inner.cpu")
LOOKS_EVERY_S = 2.0
WORKER = WorkerInfo(
    name="cpu0@host",
    host="host",
    pid=42,
    device="cpu",
    queues=("inner.cpu",),
    protocol=PROTOCOL_VERSION,
    version="0.1.0",
    fingerprint="{}",
)


class Broker:
    """A Redis of which workers and lengths of queues are told, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self.there: list[WorkerInfo] = [WORKER]
        self.waiting = 0
        monkeypatch.setattr(roll_call, "list_workers", lambda _client: self.there)
        client: Any = self
        self.call = RollCall(client, QUEUES, signing_key="", clock_s=lambda: self.now_s)

    def llen(self, name: str) -> int:
        return self.waiting if "inner.cpu" in name else 0

    def look_on(self, seconds: float, *, is_idle: bool = True) -> None:
        """Look every two seconds; a worker that is idle is so for longer and longer."""
        for _ in range(int(seconds / LOOKS_EVERY_S)):
            self.now_s += LOOKS_EVERY_S
            self.there = [
                replace(w, idle_s=w.idle_s + LOOKS_EVERY_S if is_idle else 0.0) for w in self.there
            ]
            self.call.look()


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    return Broker(monkeypatch)


def test_a_worker_that_stays_idle_while_jobs_wait_is_named_and_not_counted(
    broker: Broker,
) -> None:
    broker.waiting = 3

    broker.look_on(STARVES_AFTER_S + 3 * LOOKS_EVERY_S)

    assert broker.call.workers == ()
    ((worker, why),) = broker.call.unfit
    assert worker.name == WORKER.name
    assert "has taken no job for" in why
    assert "inner.cpu" in why


def test_a_worker_is_idle_in_peace_while_no_job_waits(broker: Broker) -> None:
    broker.look_on(100 * STARVES_AFTER_S)
    broker.waiting = 1  # sent just now

    broker.look_on(STARVES_AFTER_S - LOOKS_EVERY_S)

    assert [w.name for w in broker.call.workers] == [WORKER.name]


def test_jobs_may_wait_for_workers_that_compute(broker: Broker) -> None:
    broker.waiting = 100

    broker.look_on(100 * STARVES_AFTER_S, is_idle=False)

    assert broker.call.unfit == ()


def test_a_starving_worker_is_counted_on_once_it_takes_a_job_and_not_before(broker: Broker) -> None:
    broker.waiting = 3
    broker.look_on(2 * STARVES_AFTER_S)

    broker.waiting = 0  # others took them
    broker.look_on(2 * STARVES_AFTER_S)
    assert broker.call.workers == ()

    broker.look_on(LOOKS_EVERY_S, is_idle=False)
    assert [w.name for w in broker.call.workers] == [WORKER.name]


def test_workers_of_other_queues_and_those_that_are_gone_are_no_matter(broker: Broker) -> None:
    broker.there = [
        replace(WORKER, queues=("elsewhere",)),
        replace(WORKER, name="gone@host", last_seen_s=60.0),
    ]

    broker.call.look()

    assert (broker.call.workers, broker.call.unfit) == ((), ())
