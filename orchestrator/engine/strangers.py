"""Workers of another protocol version: people are told of each once."""

from collections.abc import Callable, Iterable

from contracts.job import PROTOCOL_VERSION
from contracts.presence import WorkerInfo


class Strangers:
    """Remembers of whom ``notify`` was told."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._told_of: set[str] = set()

    def tell_of(self, workers: Iterable[WorkerInfo]) -> None:
        """Tell of those not told of yet."""
        for worker in workers:
            if worker.name not in self._told_of:
                self._told_of.add(worker.name)
                self._notify(
                    f"worker {worker.name} speaks protocol {worker.protocol}, this orchestrator "
                    f"protocol {PROTOCOL_VERSION}: it drops its jobs, and they go elsewhere; run "
                    "the same metafleet version there, or stop it"
                )
