"""Handles the start, readiness and shutdown of a Celery worker."""

import logging
import os
import socket
from typing import Any, Final

from celery import Celery, signals
from celery.utils.log import get_multiprocessing_logger

from metafleet.contracts.device import describe_device, prepare_process, resolve_device
from metafleet.contracts.fingerprint import fingerprint_text
from metafleet.contracts.host_cache import HostCache
from metafleet.contracts.job import PROTOCOL_VERSION
from metafleet.contracts.keys import queue_name, queue_of
from metafleet.contracts.logs import make_formatter
from metafleet.contracts.presence import WorkerInfo
from metafleet.contracts.settings import Settings
from metafleet.contracts.tracing import start_tracing, stop_tracing
from metafleet.contracts.version import code_version
from metafleet.workers.consuming import SendEventsTogether, TakeHints, ready_children
from metafleet.workers.idleness import Idleness
from metafleet.workers.presence import PresenceThread

_CHATTY: Final = ("celery.worker.strategy", "celery.app.trace")
"""Celery's loggers of each job's start and end. Our own line per job says more for less."""


class Lifecycle:
    """Handles the Celery signals of one worker according to its settings."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._device = resolve_device(settings.device)
        self._presence: PresenceThread | None = None

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that this worker listens to, by their short names."""
        chosen = self._app.amqp.queues.consume_from.values()
        return tuple(sorted(str(queue.alias or queue.name) for queue in chosen))

    def connect(self) -> None:
        """Connect to Celery's signals, add our consumer steps, and silence its loggers."""
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._app.steps["consumer"].update({TakeHints, SendEventsTogether})
        signals.after_setup_logger.connect(self._format_logs, weak=False)
        signals.celeryd_after_setup.connect(self._choose_queues, weak=False)
        signals.worker_process_init.connect(self._prepare, weak=False)
        signals.worker_init.connect(self._begin_traces, weak=False)
        signals.worker_process_init.connect(self._begin_traces, weak=False)
        signals.worker_process_shutdown.connect(self._end_traces, weak=False)
        signals.worker_shutdown.connect(self._end_traces, weak=False)
        signals.worker_ready.connect(self._say_hello, weak=False)
        signals.worker_shutdown.connect(self._say_goodbye, weak=False)

    def _choose_queues(self, **_: Any) -> None:
        """Without ``-Q``, listen only to the queue of the device."""
        queues = self._app.amqp.queues
        every = {queue_name(queue_of(d), self._settings.signing_key) for d in ("cpu", "cuda")}
        if set(queues.consume_from) >= every:
            queues.select([queue_of(self._device)])

    def _format_logs(self, logger: logging.Logger, **_: Any) -> None:
        """Set our formatter on Celery's handlers. Each process of a pool does this too."""
        formatter = make_formatter(self._settings, worker=f"{socket.gethostname()}:{os.getpid()}")
        for handler in (*logger.handlers, *get_multiprocessing_logger().handlers):
            handler.setFormatter(formatter)

    def _begin_traces(self, **_: Any) -> None:
        start_tracing(self._settings, "metafleet-worker")

    def _end_traces(self, **_: Any) -> None:
        stop_tracing()

    def _prepare(self, **_: Any) -> None:
        prepare_process(self._device)

    def _say_hello(self, sender: Any, **_: Any) -> None:
        name = str(sender.hostname)
        self._presence = PresenceThread(
            str(self._settings.broker_url),
            WorkerInfo(
                name=name,
                host=socket.gethostname(),
                pid=os.getpid(),
                device=describe_device(self._device),
                queues=self.queues,
                protocol=PROTOCOL_VERSION,
                version=code_version(),
                fingerprint=fingerprint_text(self._device),
                processes=int(sender.pool.num_processes or 1),
                host_id=HostCache(self._settings.host_cache_dir).host_id,
            ).with_proof(self._settings.signing_key),
            self._settings.heartbeat_dir / f"{name}-{os.getpid()}",
            idleness=Idleness(ready_children(sender.pool)),
        )
        self._presence.start()

    def _say_goodbye(self, **_: Any) -> None:
        if self._presence is not None:
            self._presence.stop()
