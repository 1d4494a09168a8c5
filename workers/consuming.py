"""Two steps that we add to Celery's consumer to change how it consumes."""

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
    """Takes messages only when a process can start them, and acknowledges none: they are hints."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Change how the newly opened channel accounts for its messages."""
        qos = consumer.task_consumer.channel.qos
        _acknowledge_nothing(qos)
        if (ready := ready_children(consumer.pool)) is not None:
            _take_what_can_start(qos, ready)


def ready_children(pool: Any) -> Sized | None:
    """Return Celery's record of the children that are ready; None for the solo pool."""
    return getattr(getattr(pool, "_pool", None), "_all_inqueues", None)


def _acknowledge_nothing(qos: Any) -> None:
    """Make acknowledging do nothing. A queue with ``no_ack`` keeps no messages to acknowledge.

    Without this, kombu would still search for each message, in a separate transaction.
    """
    qos.ack = MethodType(lambda _qos, _delivery_tag: None, qos)


def _take_what_can_start(qos: Any, ready: Sized) -> None:
    """Let a prefork worker take only as many messages as it has ready children.

    A child needs seconds to import torch before it can start a job. But Celery counts the child as
    ready as soon as it is forked. A message that the worker takes too early would be considered
    lost, and would be sent again.
    """
    may_consume = qos.can_consume

    def can_consume(_qos: Any) -> bool:
        return len(state.reserved_requests) < len(ready) and bool(may_consume())

    qos.can_consume = MethodType(can_consume, qos)


class SendEventsTogether(bootsteps.StartStopStep):  # type: ignore[misc]
    """Sends task events a few times a second: one by one they cost more than a short job."""

    requires = (Events,)

    def start(self, consumer: Any) -> None:
        """Send events in batches, if Celery buffers them at all."""
        if consumer.hub is not None:
            later = _Sparsely(consumer.on_send_event_buffered, consumer.hub.call_later)
            consumer.event_dispatcher.on_send_buffered = later


class _Sparsely:
    """Limits the rate of ``act``: calls it now or later, once for all calls in between."""

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
