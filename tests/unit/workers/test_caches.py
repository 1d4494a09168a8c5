"""Worker caches: fetched once, checked before kept, never more than a few."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from metafleet.contracts.codec import content_digest, encode, schema_of
from metafleet.contracts.host_cache import HostCache
from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.keys import RunKeys
from metafleet.data import registry as datasets
from metafleet.errors import BlobMissingError, ConfigError, ContractError, DataCorruptError
from metafleet.params import MetaState, digest, flatten_state
from metafleet.workers.caches import RecentlyUsed, StateCache, WorkloadCache
from metafleet.workload import WorkloadSpec
from tests.memory_blobs import MemoryBlobs
from tests.messages import SPEC, make_job, make_state

SCHEMA = schema_of(flatten_state(make_state()))


class TestRecentlyUsed:
    def test_a_value_is_made_once(self) -> None:
        cache: RecentlyUsed[str, list[int]] = RecentlyUsed(2)

        first = cache.get("a", lambda: [1])

        assert cache.get("a", lambda: [2]) is first

    def test_the_least_recently_used_goes_first(self) -> None:
        cache: RecentlyUsed[str, int] = RecentlyUsed(2)
        cache.get("a", lambda: 1)
        cache.get("b", lambda: 2)
        cache.get("a", lambda: 3)

        cache.get("c", lambda: 4)

        assert cache.get("a", lambda: 5) == 1
        assert cache.get("b", lambda: 6) == 6

    def test_memory_is_freed_before_more_is_taken(self) -> None:
        alive: list[str] = []

        class Value:
            def __init__(self, name: str) -> None:
                alive.append(name)
                self.name = name

            def __del__(self) -> None:
                alive.remove(self.name)

        cache: RecentlyUsed[str, Value] = RecentlyUsed(1)
        cache.get("old", lambda: Value("old"))

        cache.get("new", lambda: Value("new") if alive == [] else pytest.fail(f"{alive}"))

        assert alive == ["new"]

    def test_a_failed_entry_is_made_again(self) -> None:
        cache: RecentlyUsed[str, int] = RecentlyUsed(2)

        with pytest.raises(ZeroDivisionError):
            cache.get("a", lambda: 1 // 0)

        assert cache.get("a", lambda: 7) == 7


class TestStates:
    @pytest.fixture
    def blobs(self) -> MemoryBlobs:
        return MemoryBlobs()

    @pytest.fixture
    def host_cache(self, tmp_path: Path) -> HostCache:
        return HostCache(tmp_path / "host")

    @staticmethod
    def publish(blobs: MemoryBlobs, state: MetaState) -> InnerLoopJob:
        data = encode(flatten_state(state)).join()
        version = content_digest(data)
        blobs.put(RunKeys("run-1").state(version), data, ttl_s=60)
        return make_job(state=version, state_bytes=len(data))

    def test_the_shards_of_a_step_fetch_its_state_once(
        self, blobs: MemoryBlobs, host_cache: HostCache
    ) -> None:
        cache, job = StateCache(blobs, host_cache), self.publish(blobs, make_state(5))

        states = [cache.get(job, SCHEMA) for _ in range(4)]

        assert digest(flatten_state(states[0])) == digest(flatten_state(make_state(5)))
        assert states[0].buffers.keys() == {"norm.mean"}
        assert all(state is states[0] for state in states)
        assert len(blobs.reads) == 1

    def test_three_versions_are_kept(self, blobs: MemoryBlobs, host_cache: HostCache) -> None:
        cache = StateCache(blobs, host_cache)
        jobs = [self.publish(blobs, make_state(seed)) for seed in range(4)]

        for job in jobs:
            cache.get(job, SCHEMA)
        for job in jobs[1:]:
            cache.get(job, SCHEMA)
        assert len(blobs.reads) == 4

        cache.get(jobs[0], SCHEMA)
        assert len(blobs.reads) == 5

    def test_a_state_that_is_gone_is_said_to_be_missing(
        self, blobs: MemoryBlobs, host_cache: HostCache
    ) -> None:
        job = self.publish(blobs, make_state())
        blobs.blobs.clear()

        with pytest.raises(BlobMissingError):
            StateCache(blobs, host_cache).get(job, SCHEMA)

    def test_a_damaged_state_is_asked_for_again(
        self, blobs: MemoryBlobs, host_cache: HostCache
    ) -> None:
        cache, job = StateCache(blobs, host_cache), self.publish(blobs, make_state())
        (key,) = blobs.blobs
        sound = blobs.blobs[key]
        blobs.blobs[key] = sound[:-1] + bytes([sound[-1] ^ 1])

        with pytest.raises(BlobMissingError, match=r"the state of train step=7 shard=1 .* damaged"):
            cache.get(job, SCHEMA)

        blobs.blobs[key] = sound
        assert digest(cache.get(job, SCHEMA).params) == digest(make_state().params)

    def test_a_state_of_another_model_is_refused(
        self, blobs: MemoryBlobs, host_cache: HostCache
    ) -> None:
        other = MetaState({"layer.weight": make_state().params["layer.weight"]}, {})
        job = self.publish(blobs, other)

        with pytest.raises(ContractError, match="do not fit the model"):
            StateCache(blobs, host_cache).get(job, SCHEMA)


class Plans:
    """A Redis that holds plans."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}
        self.reads = 0

    def mget(self, key: str) -> list[bytes | None]:
        self.reads += 1
        return [self.texts.get(key)]

    def publish(self, spec: WorkloadSpec) -> InnerLoopJob:
        text = json.dumps(spec.to_json(), sort_keys=True).encode()
        plan = content_digest(text)
        self.texts[RunKeys("run-1").plan(plan)] = text
        return make_job(plan=plan, fingerprint="")


class TestWorkloads:
    @pytest.fixture
    def plans(self) -> Plans:
        return Plans()

    @pytest.fixture
    def cache(self, plans: Plans, tmp_path: Path) -> WorkloadCache:
        return WorkloadCache(
            plans,  # type: ignore[arg-type]
            data_dir=tmp_path,
            device="cpu",
            allowed_packages=(),
        )

    @pytest.fixture
    def spec(self, tmp_path: Path) -> WorkloadSpec:
        return replace(SPEC, data_digest=datasets.open_data(SPEC.data, tmp_path).digest())

    def test_a_workload_is_built_once_for_a_plan(
        self, plans: Plans, cache: WorkloadCache, spec: WorkloadSpec
    ) -> None:
        job = plans.publish(spec)

        workload, schema = cache.get(job)

        assert workload.spec == spec
        assert schema == workload.schema()
        assert cache.get(job)[0] is workload
        assert cache.get(plans.publish(replace(spec, seed=4)))[0] is not workload
        assert plans.reads == 2

    def test_a_plan_that_is_gone_is_said_to_be_missing(self, cache: WorkloadCache) -> None:
        with pytest.raises(BlobMissingError, match="the plan of run=run-1 is not in Redis"):
            cache.get(make_job())

    def test_a_plan_that_is_not_the_promised_one_is_asked_for_again(
        self, plans: Plans, cache: WorkloadCache, spec: WorkloadSpec
    ) -> None:
        job = plans.publish(spec)
        (key,) = plans.texts
        plans.texts[key] = plans.texts[key].replace(b'"seed": 3', b'"seed": 4')

        with pytest.raises(BlobMissingError, match="the plan of run=run-1 hashes to"):
            cache.get(job)

    def test_other_data_than_the_runs_are_refused(
        self, plans: Plans, cache: WorkloadCache, spec: WorkloadSpec
    ) -> None:
        with pytest.raises(DataCorruptError, match="the run began with"):
            cache.get(plans.publish(replace(spec, data_digest="e" * 64)))

    def test_a_package_that_this_worker_does_not_allow_is_not_imported(
        self, plans: Plans, cache: WorkloadCache, spec: WorkloadSpec
    ) -> None:
        learner = {"name": "antigravity:Learner"}

        with pytest.raises(ConfigError, match="METAFLEET_ALLOWED_PACKAGES"):
            cache.get(plans.publish(replace(spec, learner=learner)))
