"""Where a state is put, and when its memory may be used for another."""

from pathlib import Path
from typing import cast

import pytest

from metafleet.contracts.codec import decode_tensors, schema_of
from metafleet.contracts.connections import Client
from metafleet.contracts.host_area import HostArea
from metafleet.contracts.host_cache import HostCache
from metafleet.contracts.keys import RunKeys
from metafleet.errors import BlobMissingError
from metafleet.orchestrator.engine.state_publisher import StatePublisher
from metafleet.params import MetaState, digest, flatten_state
from tests.memory_blobs import MemoryBlobs
from tests.messages import make_state

SCHEMA = schema_of(flatten_state(make_state()))
NO_REDIS = cast(Client, None)


class Bench:
    def __init__(self, area: HostArea | None) -> None:
        self.area, self.blobs = area, MemoryBlobs()
        self.state_publisher = StatePublisher(NO_REDIS, self.blobs, "run-1", area=area)

    def here(self, version: str, n_bytes: int) -> str:
        """Digest of a version as a worker of this host maps it."""
        assert self.area is not None
        data = self.area.map(RunKeys("run-1").state(version), n_bytes)
        return digest(decode_tensors(data, SCHEMA))


@pytest.fixture
def area(tmp_path: Path) -> HostArea:
    found = HostCache(tmp_path / "memory").open_area("run-1")
    assert found is not None
    return found


def digest_of(state: MetaState) -> str:
    return digest(flatten_state(state))


def test_workers_of_this_host_alone_need_no_store(area: HostArea) -> None:
    bench, state = Bench(area), make_state(1)

    version = bench.state_publisher.publish_state(state, holder="step 1", everywhere=False)

    assert bench.here(*version) == digest_of(state)
    assert bench.blobs.blobs == {}
    assert bench.state_publisher.publish_state(state, holder="step 2", everywhere=False) == version


def test_a_state_is_stored_once_another_host_needs_it(area: HostArea) -> None:
    bench, state = Bench(area), make_state(1)
    bench.state_publisher.publish_state(state, everywhere=False)

    version, n_bytes = bench.state_publisher.publish_state(state, everywhere=True)

    (data,) = bench.blobs.blobs.values()
    assert digest(decode_tensors(data, SCHEMA)) == digest_of(state)
    assert bench.here(version, n_bytes) == digest_of(state)
    assert bench.state_publisher.publish_state(state, everywhere=False)[0] == version


def test_without_memory_to_share_the_store_is_used() -> None:
    bench = Bench(None)

    bench.state_publisher.publish_state(make_state(1), everywhere=False)

    assert len(bench.blobs.blobs) == 1


def test_the_memory_of_a_state_in_use_is_not_used_for_another(area: HostArea) -> None:
    bench, first = Bench(area), make_state(0)
    held = bench.state_publisher.publish_state(first, holder="validation", everywhere=False)
    mapped = area.map(RunKeys("run-1").state(held[0]), held[1])

    for seed in range(1, 9):
        bench.state_publisher.publish_state(make_state(seed), holder="step", everywhere=False)
        bench.state_publisher.release("step")

    assert digest(decode_tensors(mapped, SCHEMA)) == digest_of(first)


def test_a_version_whose_name_returns_never_changes_under_a_worker_that_kept_it(
    area: HostArea,
) -> None:
    # as the state of the best step does at the end of a run, and that of a checkpoint on a resume
    bench, best = Bench(area), make_state(0)
    version = bench.state_publisher.publish_state(best, holder="step", everywhere=True)
    kept_by_a_worker = area.map(RunKeys("run-1").state(version[0]), version[1])
    bench.state_publisher.release("step")

    for seed in range(1, 9):
        bench.state_publisher.publish_state(make_state(seed), holder="step", everywhere=True)
        bench.state_publisher.release("step")

    assert bench.state_publisher.publish_state(best, everywhere=True) == version
    assert digest(decode_tensors(kept_by_a_worker, SCHEMA)) == digest_of(best)


def test_three_versions_are_kept_and_none_after_the_end(area: HostArea) -> None:
    bench = Bench(area)
    versions = [
        bench.state_publisher.publish_state(make_state(seed), everywhere=seed % 2 == 0)
        for seed in range(5)
    ]

    assert [bench.here(*v) for v in versions[2:]] == [digest_of(make_state(s)) for s in (2, 3, 4)]
    for version in versions[:2]:
        with pytest.raises(BlobMissingError):
            bench.here(*version)
    bench.state_publisher.withdraw()
    assert bench.blobs.blobs == {}


def test_what_may_be_lost_is_published_again(area: HostArea) -> None:
    bench, state = Bench(area), make_state(1)
    bench.state_publisher.publish_state(state, everywhere=True)
    bench.blobs.blobs.clear()

    bench.state_publisher.invalidate()
    version = bench.state_publisher.publish_state(state, everywhere=True)

    assert len(bench.blobs.blobs) == 1
    assert bench.here(*version) == digest_of(state)


def test_what_may_be_lost_is_deleted_all_the_same(area: HostArea) -> None:
    bench = Bench(area)
    for seed in range(3):
        bench.state_publisher.publish_state(make_state(seed), everywhere=True)
    bench.state_publisher.invalidate()
    bench.state_publisher.publish_state(make_state(2), everywhere=True)

    bench.state_publisher.withdraw()

    assert bench.blobs.blobs == {}


def test_a_version_that_the_store_did_not_delete_is_deleted_with_the_next() -> None:
    bench = Bench(None)
    delete, answers = bench.blobs.delete, [ConnectionError("away")]

    def lose(key: str, n_bytes: int) -> None:
        if answers:
            raise answers.pop()
        delete(key, n_bytes)

    bench.blobs.delete = lose  # type: ignore[method-assign]
    n_kept = 0
    for seed in range(6):
        state = make_state(seed)
        try:
            bench.state_publisher.publish_state(state)
        except ConnectionError:
            n_kept = len(bench.blobs.blobs)
            bench.state_publisher.publish_state(state)

    assert not answers and len(bench.blobs.blobs) == n_kept - 1
