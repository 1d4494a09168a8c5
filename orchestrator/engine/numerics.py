"""The numerics of a run during its execution: decides which workers may compute for it."""

import json
from collections.abc import Callable

from metafleet.contracts.attempt_outcomes import AttemptReason
from metafleet.contracts.code_used import describe_code
from metafleet.contracts.fingerprint import differences, explain, merged
from metafleet.contracts.job import ShardResult
from metafleet.workload_spec import WorkloadSpec


class Numerics:
    """The numerics fingerprint of a run, and the check of results against it.

    The fingerprint lists everything that is known to affect the bits of a worker's arithmetic. At
    first, it consists of the keys of ``known`` and this process's description of the packages that
    the run imports. The first result adds further keys.

    Args:
        known: the fingerprint with which the run began; "" for a new run.
        is_strict: whether to refuse a result with another fingerprint. If False, the result counts,
            and the worker that sent it is reported.
        notify: called with a message about each worker with another fingerprint.
    """

    def __init__(self, known: str, *, is_strict: bool, notify: Callable[[str], None]) -> None:
        self.known = known
        """Fingerprint of the workers that have computed; "" before the first result."""
        self._is_strict = is_strict
        self._notify = notify
        self._told_of: set[str] = set()

    def required(self, spec: WorkloadSpec) -> str:
        """Return the fingerprint that workers need for this work; "" for any."""
        return self._wanted(spec) if self._is_strict else ""

    def find_fault(self, spec: WorkloadSpec, result: ShardResult) -> str:
        """Return the reason why a result must not be used; "" if the result can be used.

        Keys of the result's fingerprint that ``known`` lacks are added to ``known``. If the result
        says that a worker refused a job because of its fingerprint, the worker is reported.
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
        """Report a worker, once."""
        if worker not in self._told_of:
            self._told_of.add(worker)
            self._notify(text)

    def _wanted(self, spec: WorkloadSpec) -> str:
        code = describe_code(spec)
        return merged(self.known, json.dumps(code)) if code else self.known
