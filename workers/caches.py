"""Caches that a worker process keeps between jobs: workloads by plan, states by version."""

import contextlib
import json
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from metafleet.contracts.blobs import BlobStore
from metafleet.contracts.code_used import describe_code
from metafleet.contracts.codec import (
    Buffer,
    Schema,
    check_digest,
    compare_digests,
    decode_tensors,
    narrow_schema,
    widen,
)
from metafleet.contracts.connections import Client
from metafleet.contracts.direct_client import DirectClient
from metafleet.contracts.fingerprint import require_numerics
from metafleet.contracts.host_cache import HostCache
from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.plan import RunPlan
from metafleet.data.registry import Given
from metafleet.errors import BlobMissingError, DigestError
from metafleet.params import MetaState, unflatten_state
from metafleet.workers.received_data import ReceivedData
from metafleet.workload import Workload

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentlyUsed(Generic[K, V]):
    """Keeps the ``size`` most recently used values. Not thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of ``key``; call ``make`` if it is not cached."""
        if key not in self._values:
            while len(self._values) >= self._size:  # free memory before taking more
                self._values.popitem(last=False)
            self._values[key] = make()
        self._values.move_to_end(key)
        return self._values[key]

    def forget(self, key: K) -> None:
        """Drop the value of ``key``, if it is cached."""
        self._values.pop(key, None)


def read_plan(client: Client, job: InnerLoopJob) -> bytes:
    """Return the plan of a job.

    Raises:
        BlobMissingError: the plan is not in Redis.
    """
    (text,) = client.mget(RunKeys(job.run).plan(job.plan))  # other types give None
    if not isinstance(text, bytes):
        raise BlobMissingError(f"the plan of run={job.run} is not in Redis; it expired")
    with _missing_if_damaged():
        check_digest(text, job.plan, what=f"the plan of run={job.run}")
    return text


class WorkloadCache:
    """Keeps a few workloads built from plans, because building reads data and takes seconds."""

    def __init__(
        self,
        client: Client,
        *,
        data_dir: Path,
        device: str,
        allowed_packages: tuple[str, ...],
        cache_dir: Path | None = None,
        received: ReceivedData | None = None,
    ) -> None:
        self._client, self._received = client, received
        self._data_dir = data_dir
        self._device = device
        self._allowed_packages = allowed_packages
        self._cache_dir = cache_dir
        self._workloads: RecentlyUsed[str, tuple[Workload, Schema]] = RecentlyUsed(4)

    def get(self, job: InnerLoopJob) -> tuple[Workload, Schema]:
        """Return the workload of the job's plan, and the schema of its state.

        Raises:
            BlobMissingError: the plan is not in Redis, or features are missing on this host.
            FingerprintError: the run needs another version of a package.
            ContractError, ConfigError, DataError: the workload cannot be built on this worker.
        """
        found = self._workloads.get(job.plan, lambda: self._build(job))
        if self._received is not None:
            self._received.note_use(job.plan)
        return found

    def _build(self, job: InnerLoopJob) -> tuple[Workload, Schema]:
        plan = RunPlan.from_bytes(read_plan(self._client, job))
        spec = plan.spec
        # check first: another version of a package may lack the class or its options
        require_numerics(job.fingerprint, json.dumps(describe_code(spec)))
        given: Given | None = None
        if self._received is not None and plan.features:
            given = self._received.open(job, plan.features)
        workload = Workload.build(
            spec,
            data_dir=self._data_dir,
            device=self._device,
            allowed_packages=self._allowed_packages,
            cache_dir=self._cache_dir,
            given=given,
        )
        return workload, workload.schema()  # draws a state: slow for large models


class StateCache:
    """Meta-learned states by version. Each process maps a state only once.

    Each host downloads a state only once. On the orchestrator's host, states are used in the memory
    of the host, without a copy. If a learner writes to such a state, the operating system gives the
    process a private copy of the memory page. ``Workload`` detects that the state was changed, and
    the state is dropped from this cache.
    """

    def __init__(
        self, blobs: BlobStore, host_cache: HostCache, direct: DirectClient | None = None
    ) -> None:
        self._blobs, self._host_cache = blobs, host_cache
        self._direct = direct or DirectClient("")
        self._states: RecentlyUsed[str, MetaState] = RecentlyUsed(3)

    def get(self, job: InnerLoopJob, schema: Schema) -> MetaState:
        """Return the state that the job needs, checked against the model's ``schema``.

        Raises:
            BlobMissingError: the state is not in the blob store.
            ContractError: the state is damaged or does not fit the model.
        """
        return self._states.get(job.state, lambda: self._fetch(job, schema))

    def forget(self, job: InnerLoopJob) -> None:
        """Drop the state of a job whose learner wrote to it."""
        self._states.forget(job.state)

    def _fetch(self, job: InnerLoopJob, schema: Schema) -> MetaState:
        tensors = decode_tensors(self._find(job), narrow_schema(schema, job.wire_dtype))
        return unflatten_state(widen(tensors, schema))

    def _find(self, job: InnerLoopJob) -> Buffer:
        area = self._host_cache.find_area(job.host, job.area)
        if area is not None:
            with contextlib.suppress(BlobMissingError):
                # no digest check: its name is its digest, and only our user can write it
                return area.map(RunKeys(job.run).state(job.state), job.state_bytes)
        return self._host_cache.fetch_once(
            job.run, job.state, job.state_bytes, lambda: self._download(job)
        )

    def _download(self, job: InnerLoopJob) -> bytes | bytearray:
        key, what = RunKeys(job.run).state(job.state), f"the state of {job.label}"
        route = self._direct.to(job.direct)
        if route is not None and (came := route.fetch(key, job.state_bytes)):
            compare_digests(came[1], job.state, what=what)
            return came[0]
        data = self._blobs.get(key, job.state_bytes)
        with _missing_if_damaged():
            check_digest(data, job.state, what=what)
        return data


@contextlib.contextmanager
def _missing_if_damaged() -> Iterator[None]:
    """Treat damaged blobs as missing: they are published again and do not count as failures."""
    try:
        yield
    except DigestError as error:
        raise BlobMissingError(str(error)) from error
