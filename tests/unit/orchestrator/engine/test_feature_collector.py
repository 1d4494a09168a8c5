"""Features that are not what was asked for are refused, and reach no store."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from metafleet.contracts.codec import content_digest, encode
from metafleet.contracts.exchange import Exchange
from metafleet.contracts.job import BlobRef, ShardResult
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.plan import ROWS, EncodingPlan
from metafleet.encoders.base import Array
from metafleet.encoders.choice import EncoderName
from metafleet.errors import BlobMissingError, ContractError
from metafleet.orchestrator.engine.feature_collector import FeatureCollector
from metafleet.orchestrator.engine.step import EncodeRequest, cut
from tests.memory_blobs import MemoryBlobs
from tests.messages import make_result

KEYS = RunKeys("run-1").step("encode", 3, epoch=1)
PLAN = EncodingPlan(EncoderName("table", "package:toy"), {"weights": "1"}, "<f4", (5,), 4)
ROWS_OF = np.random.default_rng(2).random((10, 4)).astype(np.float32)


class Bench:
    """A collector for ten items in four shards, and a store that features lie in."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, Array]] = []
        items = np.zeros((10, 5), np.float32)
        request = EncodeRequest(3, PLAN, items, lambda n, rows: self.taken.append((n, rows)))
        self.blobs = MemoryBlobs()
        exchange = Exchange(self.blobs, None)
        self.collector = FeatureCollector(request, cut(request, 3), exchange=exchange)

    def deliver(self, shard: int, rows: Array | None = None, **changes: Any) -> ShardResult:
        """Return a result whose features are in the store."""
        found = ROWS_OF[3 * shard : 3 * shard + 3] if rows is None else rows
        data = encode({ROWS: torch.from_numpy(found.copy())}).join()
        self.blobs.put(KEYS.blob(shard, 0), data, ttl_s=60)
        named = {"stream": "encode", "step": 3, "shard": shard, "attempt": 0}
        about = {"blob_bytes": len(data), "blob_digest": content_digest(data), "blob_seal": ""}
        scores: dict[str, Any] = {"losses": (), "accuracies": ()}
        return make_result(**(named | about | scores | changes))


def test_features_are_handed_on_with_the_number_of_their_first_item() -> None:
    bench = Bench()

    for shard in (2, 0, 3, 1):
        bench.collector.add(bench.deliver(shard), KEYS)

    assert [first for first, _ in bench.taken] == [6, 0, 9, 3]
    for first, rows in bench.taken:
        np.testing.assert_array_equal(rows, ROWS_OF[first : first + len(rows)])
    assert sum(job.episodes for job in bench.collector.jobs()) == 10


def test_items_are_deleted_when_their_shard_is_done() -> None:
    bench = Bench()
    for shard in range(4):
        bench.blobs.put(f"items-{shard}", b"12345", ttl_s=60)
        bench.collector.inputs[shard] = BlobRef(key=f"items-{shard}", n_bytes=5, digest="d")

    bench.collector.add(bench.deliver(1), KEYS)
    bench.collector.drop_read()

    assert sorted(bench.blobs.blobs) == ["items-0", "items-2", "items-3"]
    bench.collector.drop_inputs()
    assert bench.blobs.blobs == {}


def spoilt(value: float) -> Array:
    rows = ROWS_OF[:3].copy()
    rows[2, 1] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS_OF[:2], "a block of features of .* bytes was declared"),
        (ROWS_OF[:4], "a block of features of .* bytes was declared"),
        (ROWS_OF[:3].astype(np.float64), "a block of features of .* bytes was declared"),
        (ROWS_OF[:3].reshape(4, 3), r"'rows' is float32 \[4, 3\]"),
        (ROWS_OF[:3].view(np.int32), "'rows' is int32"),
        (spoilt(np.nan), "the features of shard 0 are not finite"),
        (spoilt(np.inf), "the features of shard 0 are not finite"),
    ],
    ids=["short", "long", "float64", "turned", "integers", "nan", "infinite"],
)
def test_wrong_features_are_refused(rows: Array, message: str) -> None:
    bench = Bench()

    with pytest.raises(ContractError, match=message):
        bench.collector.add(bench.deliver(0, rows), KEYS)

    assert bench.taken == []


def truncated(blobs: dict[str, bytes], key: str) -> None:
    blobs[key] = blobs[key][:-1]


def flipped(blobs: dict[str, bytes], key: str) -> None:
    blobs[key] = blobs[key][:-1] + bytes([blobs[key][-1] ^ 1])


@pytest.mark.parametrize("fault", [truncated, flipped])
def test_features_damaged_on_their_way_are_refused(
    fault: Callable[[dict[str, bytes], str], None],
) -> None:
    bench = Bench()
    result = bench.deliver(0)
    fault(bench.blobs.blobs, KEYS.blob(0, 0))

    with pytest.raises((ContractError, BlobMissingError)):
        bench.collector.add(result, KEYS)

    assert bench.taken == []


@pytest.mark.parametrize(
    "change",
    [{"stream": "train"}, {"step": 4}, {"shard": 4}, {"losses": (0.5,)}, {"blob_digest": "0" * 64}],
    ids=str,
)
def test_results_of_something_else_are_refused(change: Mapping[str, Any]) -> None:
    bench = Bench()

    with pytest.raises(ContractError):
        bench.collector.add(bench.deliver(0).model_copy(update=change), KEYS)

    assert bench.taken == []


def test_a_plan_is_read_as_it_was_written() -> None:
    assert EncodingPlan.from_bytes(PLAN.to_bytes()) == PLAN
    for text in (b"[]", b"{}", PLAN.to_bytes().replace(b'"n_features": 4', b'"n_features": "4"')):
        with pytest.raises(ContractError):
            EncodingPlan.from_bytes(text)
