"""The collector: what is not what was asked for is refused, and leaves no trace in the sum."""

import itertools
from typing import Any

import pytest
import torch

from metafleet.contracts.exchange import Exchange
from metafleet.contracts.job import ShardResult
from metafleet.contracts.keys import RunKeys
from metafleet.errors import (
    BlobMissingError,
    BrokerUnavailableError,
    ContractError,
    StaleError,
)
from metafleet.orchestrator.engine.collector import Collector
from metafleet.orchestrator.engine.step import StepRequest, cut
from metafleet.params import MetaState, Params, digest, flatten_state
from tests.memory_blobs import MemoryBlobs
from tests.messages import make_request, make_result, make_sums, with_blob

KEYS = RunKeys("run-1").step("train", 7, epoch=1)
SIZES = (3, 3, 3, 1)


class Bench:
    """A collector for ten episodes in four shards, and a store its sums lie in."""

    def __init__(
        self,
        request: StepRequest | None = None,
        *,
        blobs: MemoryBlobs | None = None,
        defer: bool = False,
    ) -> None:
        self.blobs = blobs or MemoryBlobs()
        self.request = request or make_request()
        self.collector = Collector(
            self.request, cut(self.request, 3), exchange=Exchange(self.blobs, None), defer=defer
        )

    def deliver(self, shard: int, sums: Params | None = None, /, **changes: Any) -> ShardResult:
        """A result whose sum is in the store."""
        losses = tuple(0.1 * shard + 0.01 * i for i in range(SIZES[shard]))
        fields = {"shard": shard, "losses": losses, "accuracies": losses, "attempt": shard % 2}
        result, data = with_blob(make_result(**fields), sums or make_sums(shard))
        self.blobs.put(KEYS.blob(shard, shard % 2), data, ttl_s=60)
        return result.model_copy(update=changes)

    def add(self, *shards: int) -> None:
        for shard in shards:
            self.collector.add(self.deliver(shard), KEYS)


def undisturbed() -> str:
    bench = Bench()
    bench.add(0, 1, 2, 3)
    return digest(bench.collector.sums())


def test_the_sum_has_the_same_bits_in_any_order_of_arrival() -> None:
    found = set()
    for order in itertools.permutations(range(4)):
        bench = Bench()
        bench.add(*order)
        found.add(digest(bench.collector.sums()))

    assert found == {undisturbed()}


def test_the_sum_is_the_sum() -> None:
    bench = Bench()
    bench.add(3, 1, 0, 2)

    for name, total in bench.collector.sums().items():
        wanted = torch.stack([make_sums(shard)[name].double() for shard in range(4)]).sum(0)
        assert torch.allclose(total.double(), wanted, rtol=1e-6, atol=1e-6)
        assert wanted.abs().min() > 1e-3


def test_metrics_and_facts_come_in_order_of_shard() -> None:
    bench = Bench()
    bench.add(3, 1, 0, 2)

    losses = [metrics.loss for metrics in bench.collector.metrics()]
    jobs = bench.collector.jobs()

    assert losses == sorted(losses)
    assert len(losses) == 10
    assert [(job.shard, job.attempt, job.episodes) for job in jobs] == [
        (0, 0, 3),
        (1, 1, 3),
        (2, 0, 3),
        (3, 1, 1),
    ]
    assert all(job.worker == "host:42" and job.payload_bytes > 0 for job in jobs)


def test_a_sum_that_was_added_is_deleted_from_the_store() -> None:
    bench = Bench()

    bench.add(0, 1)
    assert len(bench.blobs.blobs) == 2
    bench.collector.drop_read()

    assert bench.blobs.blobs == {}


class AwayStore(MemoryBlobs):
    """A store that is away for its next so many deletions, or reads."""

    deletions = reads_away = 0

    def delete(self, key: str, n_bytes: int) -> None:
        if self.deletions:
            self.deletions -= 1
            raise BrokerUnavailableError("away")
        super().delete(key, n_bytes)

    def get(self, key: str, n_bytes: int) -> Any:
        if self.reads_away:
            self.reads_away -= 1
            raise BrokerUnavailableError("away")
        return super().get(key, n_bytes)


def test_a_store_that_goes_away_after_a_sum_was_added_has_it_added_once() -> None:
    bench = Bench(blobs=AwayStore())
    bench.blobs.deletions = 1
    bench.add(0, 1, 2, 3)

    with pytest.raises(BrokerUnavailableError):
        bench.collector.drop_read()
    bench.collector.drop_read()

    assert digest(bench.collector.sums()) == undisturbed()
    assert bench.blobs.blobs == {}


def test_noted_sums_are_all_added_though_the_store_goes_away_in_between() -> None:
    bench = Bench(blobs=AwayStore(), defer=True)
    bench.add(0, 1, 2, 3)
    bench.blobs.reads_away = bench.blobs.deletions = 1
    for _ in range(2):
        with pytest.raises(BrokerUnavailableError):
            bench.collector.add_deferred()
    bench.collector.add_deferred()

    assert digest(bench.collector.sums()) == undisturbed()
    assert bench.blobs.blobs == {}


def test_an_evaluation_needs_no_blobs() -> None:
    bench = Bench(make_request(kind="evaluate"))
    for shard in (2, 0, 3, 1):
        losses = (float(shard),) * SIZES[shard]
        bench.collector.add(make_result(shard=shard, losses=losses, accuracies=()), KEYS)

    metrics = bench.collector.metrics()

    assert bench.collector.sums() == {}
    assert [m.loss for m in metrics] == [0.0] * 3 + [1.0] * 3 + [2.0] * 3 + [3.0]
    assert all(m.accuracy is None for m in metrics)
    assert bench.blobs.reads == []


def without(sums: Params, name: str) -> Params:
    return {key: tensor for key, tensor in sums.items() if key != name}


def spoilt(name: str, tensor: torch.Tensor) -> Params:
    return {**make_sums(1), name: tensor}


@pytest.mark.parametrize(
    ("sums", "message"),
    [
        (without(make_sums(1), "params.layer.bias"), r"a sum of \d+ bytes was declared"),
        (spoilt("params.extra", torch.ones(1)), r"a sum of \d+ bytes was declared"),
        (spoilt("params.layer.bias", torch.ones(5)), r"is float32 \[5\]; .* float32 \[4\]"),
        (spoilt("params.layer.bias", torch.ones(4, dtype=torch.float64)), "is float64"),
        (spoilt("params.layer.bias", torch.tensor([1.0, float("nan"), 1.0, 1.0])), "not finite"),
        (spoilt("buffers.norm.mean", torch.full((4,), float("inf"))), "not finite"),
    ],
)
def test_a_sum_that_does_not_fit_the_model_is_refused_and_not_added(
    sums: Params, message: str
) -> None:
    bench = Bench()
    bench.add(0)

    with pytest.raises(ContractError, match=message):
        bench.collector.add(bench.deliver(1, sums), KEYS)

    bench.add(1, 2, 3)
    assert digest(bench.collector.sums()) == undisturbed()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"blob_digest": "0" * 64}, ContractError, "the sum of shard 1 hashes to"),
        ({"blob_digest": ""}, ContractError, "hashes to"),
        ({"losses": (0.1, 0.2)}, ContractError, "2 losses and 3 accuracies came for 3 episodes"),
        ({"losses": (0.1,) * 4}, ContractError, "4 losses"),
        ({"losses": ()}, ContractError, "0 losses"),
        ({"accuracies": (0.5,)}, ContractError, "1 accuracies"),
        ({"shard": 4}, ContractError, "shard=4 of a step of 4 shards"),
        ({"step": 8}, StaleError, "for train step 8, open is train step 7"),
        ({"stream": "validate"}, StaleError, "for validate step 7"),
        ({"attempt": 5}, BlobMissingError, "blob:1:5"),
    ],
)
def test_a_result_that_was_not_asked_for_is_refused_and_not_added(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    bench = Bench()
    bench.add(0)

    with pytest.raises(error, match=message):
        bench.collector.add(bench.deliver(1, **changes), KEYS)

    bench.add(1, 2, 3)
    assert digest(bench.collector.sums()) == undisturbed()
    assert len(bench.collector.metrics()) == 10


@pytest.mark.parametrize("n_bytes", [0, 10_000, 2**40])
def test_a_sum_of_an_impossible_size_is_not_even_fetched(n_bytes: int) -> None:
    bench = Bench()

    with pytest.raises(ContractError, match=f"a sum of {n_bytes} bytes was declared"):
        bench.collector.add(bench.deliver(1, blob_bytes=n_bytes), KEYS)

    assert bench.blobs.reads == []


def test_a_sum_cut_off_in_the_store_is_refused() -> None:
    bench = Bench()
    result = bench.deliver(1)
    key = KEYS.blob(1, 1)
    bench.blobs.blobs[key] = bench.blobs.blobs[key][:-1]

    with pytest.raises(BlobMissingError):
        bench.collector.add(result, KEYS)


def test_a_shard_that_comes_twice_is_added_once() -> None:
    bench = Bench()
    bench.add(0, 1)

    with pytest.raises(ContractError, match="came twice"):
        bench.add(1)

    bench.add(2, 3)
    assert digest(bench.collector.sums()) == undisturbed()


def test_a_model_of_many_long_names_fits_its_own_size_limit() -> None:
    names = [f"blocks.{i}.{'inner.' * 30}weight" for i in range(200)]
    state = MetaState({name: torch.randn(2) for name in names}, {})
    bench = Bench(make_request(state, n_episodes=3))

    bench.collector.add(bench.deliver(0, flatten_state(state)), KEYS)

    assert digest(bench.collector.sums()) == digest(flatten_state(state))


def test_bits_of_a_watched_shard_are_those_of_its_sum_and_metrics() -> None:
    def seen(*, defer: bool = False, sums: Params | None = None, **changes: Any) -> object:
        bench = Bench(defer=defer)
        bench.collector.watch(1)
        bench.add(0)
        assert bench.collector.seen is None
        bench.collector.add(bench.deliver(1, sums, **changes), KEYS)
        bench.add(2)
        return bench.collector.seen

    plain = seen()
    assert plain == seen() == seen(defer=True)
    assert plain not in (seen(sums=make_sums(9)), seen(losses=(0.1, 0.2, 0.3)))
    assert plain != seen(worker="host:43")
