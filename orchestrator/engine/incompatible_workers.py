"""Finds workers that are alive but cannot compute for a run, and reports each one once."""

from collections.abc import Callable, Iterable

from metafleet.contracts.job import PROTOCOL_VERSION
from metafleet.contracts.presence import WorkerInfo


def find_mismatch(worker: WorkerInfo, signing_key: str) -> str:
    """Return why a worker takes no jobs of an orchestrator with this key; "" if it does."""
    if worker.protocol != PROTOCOL_VERSION:
        return (
            f"speaks protocol {worker.protocol}, this orchestrator protocol {PROTOCOL_VERSION}: it "
            "gets no jobs; run the same metafleet version there, or stop it"
        )
    if worker.holds_key(signing_key):
        return ""
    difference = (
        "has a signing key and this orchestrator has none"
        if not signing_key
        else "has another signing key than this orchestrator"
        if worker.key_proof
        else "has no signing key and this orchestrator has one"
    )
    return (
        f"{difference}: it gets no jobs; set the same METAFLEET_SIGNING_KEY for orchestrator and "
        "workers, and start it again"
    )


class IncompatibleWorkers:
    """Reports incompatible workers to ``notify``, each one once."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._told_of: set[tuple[str, int]] = set()

    def tell_of(self, unfit: Iterable[tuple[WorkerInfo, str]]) -> None:
        """Report the workers, given with reasons, that were not reported yet."""
        for worker, why in unfit:
            who = (worker.name, worker.pid)
            if who not in self._told_of:
                self._told_of.add(who)
                self._notify(f"worker {worker.name} {why}")
