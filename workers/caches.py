"""What a worker process keeps between jobs: workloads by plan, states by version."""

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
from metafleet.errors import BlobMissingError, DigestError
from metafleet.params import MetaState, unflatten_state
from metafleet.workload import Workload, WorkloadSpec

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentlyUsed(Generic[K, V]):
    """The ``size`` values used last. Not thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of ``key``, made by ``make`` when it is not there."""
        if key not in self._values:
            while len(self._values) >= self._size:  # free memory before taking more
                self._values.popitem(last=False)
            self._values[key] = make()
        self._values.move_to_end(key)
        return self._values[key]

    def forget(self, key: K) -> None:
        """Drop the value of ``key``, if there is one."""
        self._values.pop(key, None)


class WorkloadCache:
    """Workloads rebuilt from plans: building reads data and takes seconds, so a few are kept."""

    def __init__(
        self,
        client: Client,
        *,
        data_dir: Path,
        device: str,
        allowed_packages: tuple[str, ...],
        cache_dir: Path | None = None,
    ) -> None:
        self._client = client
        self._data_dir = data_dir
        self._device = device
        self._allowed_packages = allowed_packages
        self._cache_dir = cache_dir
        self._workloads: RecentlyUsed[str, tuple[Workload, Schema]] = RecentlyUsed(4)

    def get(self, job: InnerLoopJob) -> tuple[Workload, Schema]:
        """Return the workload of the job's plan, and the schema of its state.

        Raises:
            BlobMissingError: the plan is not in Redis.
            FingerprintError: the run needs another version of a package.
            ContractError, ConfigError, DataError: it cannot be rebuilt here.
        """
        return self._workloads.get(job.plan, lambda: self._build(job))

    def _build(self, job: InnerLoopJob) -> tuple[Workload, Schema]:
        (text,) = self._client.mget(RunKeys(job.run).plan(job.plan))  # none of another type
        if not isinstance(text, bytes):
            raise BlobMissingError(f"the plan of run={job.run} is not in Redis; it expired")
        with _missing_if_damaged():
            check_digest(text, job.plan, what=f"the plan of run={job.run}")
        spec = WorkloadSpec.from_json(json.loads(text))
        # another version of a package need not have the class, or its options, at all
        require_numerics(job.fingerprint, json.dumps(describe_code(spec)))
        workload = Workload.build(
            spec,
            data_dir=self._data_dir,
            device=self._device,
            allowed_packages=self._allowed_packages,
            cache_dir=self._cache_dir,
        )
        return workload, workload.schema()  # which draws a state: as slow as a job of a large model


class StateCache:
    """Meta-learned states by version: a process maps a state once, a host downloads it once.

    States in the memory of the orchestrator's host are used where they are. A learner that wrote
    to one would write to a private copy of the page; ``Workload`` notices, and it is forgotten.
    """

    def __init__(
        self, blobs: BlobStore, host_cache: HostCache, direct: DirectClient | None = None
    ) -> None:
        self._blobs, self._host_cache = blobs, host_cache
        self._direct = direct or DirectClient("")
        self._states: RecentlyUsed[str, MetaState] = RecentlyUsed(3)

    def get(self, job: InnerLoopJob, schema: Schema) -> MetaState:
        """Return the state the job asks for, checked against the model's ``schema``.

        Raises:
            BlobMissingError: it is not in the blob store.
            ContractError: it is damaged or does not fit the model.
        """
        return self._states.get(job.state, lambda: self._fetch(job, schema))

    def forget(self, job: InnerLoopJob) -> None:
        """Drop the state of a job, which was written to."""
        self._states.forget(job.state)

    def _fetch(self, job: InnerLoopJob, schema: Schema) -> MetaState:
        tensors = decode_tensors(self._find(job), narrow_schema(schema, job.wire_dtype))
        return unflatten_state(widen(tensors, schema))

    def _find(self, job: InnerLoopJob) -> Buffer:
        area = self._host_cache.find_area(job.host, job.area)
        if area is not None:
            with contextlib.suppress(BlobMissingError):
                # no digest: it is named by its digest, and only our user can have written it
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
    """Treat what is damaged as gone: it is published again, and counts as no failure."""
    try:
        yield
    except DigestError as error:
        raise BlobMissingError(str(error)) from error
