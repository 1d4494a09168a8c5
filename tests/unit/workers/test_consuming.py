"""Events wait for each other, and messages for children that are ready."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from metafleet.workers.consuming import EVENTS_EVERY_S, SendEventsTogether, TakeHints


class FakeQos:
    """Counts what it is asked; may always consume."""

    acks = 0

    def can_consume(self) -> bool:
        return True

    def ack(self, delivery_tag: str) -> None:
        self.acks += 1


def consumer(pool: object, qos: FakeQos) -> Any:
    return SimpleNamespace(
        pool=pool, task_consumer=SimpleNamespace(channel=SimpleNamespace(qos=qos))
    )


@pytest.fixture
def reserved(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    requests: set[str] = set()
    monkeypatch.setattr("metafleet.workers.consuming.state.reserved_requests", requests)
    return requests


def test_a_prefork_worker_takes_as_many_messages_as_children_are_ready(reserved: set[str]) -> None:
    ready: set[int] = set()
    qos = FakeQos()
    parent = consumer(SimpleNamespace(_pool=SimpleNamespace(_all_inqueues=ready)), qos)

    TakeHints(parent).start(parent)

    assert not qos.can_consume()
    ready |= {7, 8}
    assert qos.can_consume()
    reserved.add("first")
    assert qos.can_consume()
    reserved.add("second")
    assert not qos.can_consume()


def test_a_worker_without_children_takes_what_celery_lets_it(reserved: set[str]) -> None:
    qos = FakeQos()
    parent = consumer(SimpleNamespace(), qos)

    TakeHints(parent).start(parent)

    assert qos.can_consume()


def test_nothing_is_acknowledged() -> None:
    qos = FakeQos()
    parent = consumer(SimpleNamespace(), qos)

    TakeHints(parent).start(parent)
    qos.ack("tag")

    assert qos.acks == 0


def test_events_of_a_moment_go_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, sent_at_s = [50.0], []
    waiting: list[tuple[float, Callable[[], None]]] = []
    monkeypatch.setattr("metafleet.workers.consuming.time.monotonic", lambda: now_s[0])
    parent = SimpleNamespace(
        hub=SimpleNamespace(call_later=lambda after_s, act: waiting.append((after_s, act))),
        event_dispatcher=SimpleNamespace(),
        on_send_event_buffered=lambda: sent_at_s.append(now_s[0]),
    )
    SendEventsTogether(parent).start(parent)
    buffered = parent.event_dispatcher.on_send_buffered

    buffered()
    now_s[0] += 0.1
    for _ in range(5):
        buffered()
    assert sent_at_s == [50.0]
    ((after_s, act),) = waiting
    assert after_s == pytest.approx(EVENTS_EVERY_S - 0.1)
    now_s[0] += after_s
    act()
    now_s[0] += 10
    buffered()

    assert sent_at_s == [50.0, 50.25, 60.25]
