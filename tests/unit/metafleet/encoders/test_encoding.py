"""Items are encoded in full batches, each once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metafleet.encoders.base import PretrainedEncoder
from metafleet.encoders.choice import EncoderName
from metafleet.encoders.encoding import Chunk, encode_rows, encoding_elsewhere
from metafleet.encoders.store import FeatureStore, item_key
from metafleet.errors import DataError


class _Sums(PretrainedEncoder):
    """Two features: the sum of an item, and its number of values."""

    name, kinds, batch_items = "sums", frozenset(("table",)), 4

    def __init__(self) -> None:
        self.n_batches = 0

    def reading(self, kind: str) -> Mapping[str, Any]:
        return {}

    def identity(self) -> Mapping[str, Any]:
        return {"encoder": self.name}

    def n_features(self, shape: tuple[int, ...]) -> int:
        return 2

    def encode(self, items: Any) -> Any:
        assert len(items) == self.batch_items
        self.n_batches += 1
        sums = items.reshape(len(items), -1).sum(axis=1)
        return np.stack([sums, np.full(len(items), items[0].size)], axis=1).astype(np.float32)


def _encode(
    encoder: _Sums, items: Any, rows: list[int], store: FeatureStore | None = None
) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    encode_rows(encoder, items, rows, lambda n, row: found.update({n: row.tolist()}), store=store)
    return found


def test_chosen_rows_get_their_own_features_in_order() -> None:
    items = np.arange(30, dtype=np.float32).reshape(10, 3)

    found = _encode(_Sums(), items, [0, 2, 3, 7, 8, 9])

    assert list(found) == [0, 2, 3, 7, 8, 9]
    assert found == {n: [items[n].sum(), 3.0] for n in found}


def test_what_a_store_has_is_not_encoded_again(tmp_path: Path) -> None:
    items, encoder = np.arange(24, dtype=np.float32).reshape(8, 3), _Sums()
    first = _encode(encoder, items[:4], [0, 1, 2, 3], FeatureStore(tmp_path, 2))

    again = _encode(encoder, items, list(range(8)), FeatureStore(tmp_path, 2))

    assert encoder.n_batches == 2  # four new items, one batch
    assert [again[n] for n in range(4)] == [first[n] for n in range(4)]


@pytest.mark.parametrize("cut", [("index.bin", 13), ("rows.bin", 3), ("index.bin", 200)])
def test_a_store_that_was_cut_short_loses_only_what_is_gone(
    cut: tuple[str, int], tmp_path: Path
) -> None:
    items, encoder = np.arange(24, dtype=np.float32).reshape(8, 3), _Sums()
    whole = _encode(encoder, items, list(range(8)), FeatureStore(tmp_path, 2))
    path = tmp_path / cut[0]
    path.write_bytes(path.read_bytes()[: -cut[1]])

    assert _encode(encoder, items, list(range(8)), FeatureStore(tmp_path, 2)) == whole
    assert 2 < encoder.n_batches <= 4
    assert _encode(encoder, items, list(range(8)), FeatureStore(tmp_path, 2)) == whole


def test_a_damaged_row_is_computed_again(tmp_path: Path) -> None:
    items, encoder = np.arange(12, dtype=np.float32).reshape(4, 3), _Sums()
    whole = _encode(encoder, items, [0, 1, 2, 3], FeatureStore(tmp_path, 2))
    data = bytearray((tmp_path / "rows.bin").read_bytes())
    data[8] ^= 1
    (tmp_path / "rows.bin").write_bytes(data)

    store = FeatureStore(tmp_path, 2)

    assert store.get(item_key(items[1])) is None
    assert _encode(encoder, items, [0, 1, 2, 3], store) == whole
    assert FeatureStore(tmp_path, 2).get(item_key(items[1])) is not None


def test_two_processes_may_add_to_one_store(tmp_path: Path) -> None:
    one, other = FeatureStore(tmp_path, 2), FeatureStore(tmp_path, 2)
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    keys = [bytes([n]) * 32 for n in range(4)]

    one.add(keys[:2], rows[:2])
    other.add(keys[2:], rows[2:])

    again = FeatureStore(tmp_path, 2)
    for key, row in zip(keys, rows, strict=True):
        np.testing.assert_array_equal(again.get(key), row)


def test_features_that_are_not_finite_are_refused() -> None:
    items = np.array([[np.inf, 0.0]], np.float32)

    with pytest.raises(DataError, match="encoder 'sums' gave features that are not finite"):
        _encode(_Sums(), items, [0])


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match="features cannot be kept in"):
        FeatureStore(tmp_path / "file" / "store", 2)


def test_a_store_keeps_each_item_once(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 2)
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    keys = [item_key(np.full(3, n)) for n in (0, 1, 0, 2)]

    store.add(keys, rows)
    FeatureStore(tmp_path, 2).add(keys[1:], rows[1:] + 1)

    assert (tmp_path / "index.bin").stat().st_size == 3 * 40
    assert (tmp_path / "rows.bin").stat().st_size == 3 * 8
    found = store.get(keys[1])
    assert found is not None and found.tolist() == [2.0, 3.0]


def test_what_is_encoded_elsewhere_is_cut_as_here(tmp_path: Path) -> None:
    items = np.arange(66, dtype=np.float32).reshape(22, 3)
    store, rows = FeatureStore(tmp_path, 2), [n for n in range(22) if n != 5]
    encoder, done = _Sums(), list[int]()
    here = _encode(encoder, items, rows[:3], store)  # these are known
    found: dict[int, Any] = {}
    sizes = []

    def elsewhere(own: PretrainedEncoder, name: EncoderName, chunks: Iterator[Chunk]) -> None:
        assert own is encoder and name == EncoderName("table", "sums")
        for chunk in reversed(list(chunks)):
            sizes.append(len(chunk.items))
            for first in (4, 0, *range(8, len(chunk.items), 4)):
                chunk.take(first, encoder.encode_part(chunk.items[first : first + 4]))

    with encoding_elsewhere(elsewhere):
        encode_rows(
            encoder,
            items,
            rows,
            lambda n, row: found.update({n: row.tolist()}),
            store=store,
            name=EncoderName("table", "sums"),
            progress=lambda n, total: done.append(n),
        )

    assert sizes == [18] and done[-1] == len(rows)
    assert found == here | {n: [items[n].sum(), 3.0] for n in rows}
    assert _encode(encoder, items, rows) == found  # here again, without the block
