"""Whose arithmetic a run's is while it is executed, and who may compute for it."""

import json
from collections.abc import Callable

from metafleet.contracts.attempt_outcomes import AttemptReason
from metafleet.contracts.code_used import describe_code
from metafleet.contracts.fingerprint import differences, explain, merged
from metafleet.contracts.job import ShardResult
from metafleet.workload_spec import WorkloadSpec


class Numerics:
    """The arithmetic of a run: what was recorded, this process's packages, the first result's rest.

    Args:
        known: fingerprint that the run was begun with; "" when it begins.
        is_strict: refuse results of other arithmetic; otherwise people are told of each worker.
        notify: told of workers that compute otherwise.
    """

    def __init__(self, known: str, *, is_strict: bool, notify: Callable[[str], None]) -> None:
        self.known = known
        """Fingerprint of those who have computed; "" while none has."""
        self._is_strict = is_strict
        self._notify = notify
        self._told_of: set[str] = set()

    def required(self, spec: WorkloadSpec) -> str:
        """Return the fingerprint that workers need for some work; "" when any will do."""
        return self._wanted(spec) if self._is_strict else ""

    def find_fault(self, spec: WorkloadSpec, result: ShardResult) -> str:
        """Say why a result must not count; "" when it may. What it shows first becomes known.

        People are told of workers that refuse to compute otherwise than the run.
        """
        if result.status != "ok":
            if result.reason == AttemptReason.FINGERPRINT:
                self._tell(result.worker, f"worker {result.error}; its jobs go elsewhere")
            return ""
        wanted = self._wanted(spec)
        found = differences(wanted, result.fingerprint)
        if not found:
            self.known = merged(wanted, result.fingerprint)
            return ""
        fault = f"{result.worker} computes otherwise than the run: {explain(found)}"
        if self._is_strict:
            return fault
        self._tell(result.worker, f'{fault}; engine.numerics="relaxed" goes on with it')
        return ""

    def _tell(self, worker: str, text: str) -> None:
        """Tell people of a worker, once."""
        if worker not in self._told_of:
            self._told_of.add(worker)
            self._notify(text)

    def _wanted(self, spec: WorkloadSpec) -> str:
        code = describe_code(spec)
        return merged(self.known, json.dumps(code)) if code else self.known
