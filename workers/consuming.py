"""What Celery's consumer does otherwise with us: two steps that are added to its own."""

import time
from collections.abc import Callable, Sized
from types import MethodType
from typing import Any, Final

from celery import bootsteps
from celery.worker import state
from celery.worker.consumer.events import Events
from celery.worker.consumer.tasks import Tasks

EVENTS_EVERY_S: Final = 0.25


class TakeHints(bootsteps.StartStopStep):  # type: ignore[misc]
    """Messages are hints: taken when somebody can begin with them, and forgotten at once."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Change how the channel that was just opened counts its messages."""
        qos = consumer.task_consumer.channel.qos
        _acknowledge_nothing(qos)
        if (ready := ready_children(consumer.pool)) is not None:
            _take_what_can_start(qos, ready)


def ready_children(pool: Any) -> Sized | None:
    """Return Celery's own record of the children that said that they are up; None of solo."""
    return getattr(getattr(pool, "_pool", None), "_all_inqueues", None)


def _acknowledge_nothing(qos: Any) -> None:
    """Let acknowledging do nothing: of a queue with ``no_ack``, no message is kept for it.

    kombu looks for the message all the same, in a transaction for each.
    """
    qos.ack = MethodType(lambda _qos, _delivery_tag: None, qos)


def _take_what_can_start(qos: Any, ready: Sized) -> None:
    """Let a prefork worker take as many messages as it has children that are ready.

    A child imports torch for seconds before it can start a job. Celery counts children from the
    fork on: the messages it took too early would count as lost and be sent again.
    """
    may_consume = qos.can_consume

    def can_consume(_qos: Any) -> bool:
        return len(state.reserved_requests) < len(ready) and bool(may_consume())

    qos.can_consume = MethodType(can_consume, qos)


class SendEventsTogether(bootsteps.StartStopStep):  # type: ignore[misc]
    """Task events go out a few times a second: one by one they cost more than a short job."""

    requires = (Events,)

    def start(self, consumer: Any) -> None:
        """Let the events wait for each other, where Celery buffers them at all."""
        if consumer.hub is not None:
            later = _Sparsely(consumer.on_send_event_buffered, consumer.hub.call_later)
            consumer.event_dispatcher.on_send_buffered = later


class _Sparsely:
    """Calls ``act`` at once when it has rested, else later; once for all calls in between."""

    def __init__(
        self, act: Callable[[], None], call_later: Callable[[float, Callable[[], None]], object]
    ) -> None:
        self._act, self._call_later = act, call_later
        self._next_s = 0.0
        self._is_due = False

    def __call__(self) -> None:
        rest_s = self._next_s - time.monotonic()
        if self._is_due:
            return
        if rest_s <= 0:
            self._run()
        else:
            self._is_due = True
            self._call_later(rest_s, self._run)

    def _run(self) -> None:
        self._is_due = False
        self._next_s = time.monotonic() + EVENTS_EVERY_S
        self._act()
