"""Items are encoded in full batches, each once."""

import multiprocessing
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metafleet.encoders import encoding
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


def test_all_items_are_encoded_in_full_batches_with_one_thread_a_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder, items = _Sums(), np.random.default_rng(2).random((6, 3)).astype(np.float32)
    encode, n_threads = encoder.encode, list[int]()

    def encode_and_note(batch: Any) -> Any:
        n_threads.append(torch.get_num_threads())
        return encode(batch)

    monkeypatch.setattr(encoder, "encode", encode_and_note)
    before = torch.get_num_threads()
    torch.set_num_threads(3)

    found = encoder.encode_all(items)

    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)
    assert n_threads == [1, 1]
    np.testing.assert_allclose(found[:, 0], items.sum(1), rtol=1e-6)


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


def test_processes_may_add_to_one_store_at_the_same_time(tmp_path: Path) -> None:
    n_processes, n_each = 3, 40
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(n_processes)
    ends = [10 * n + n_each for n in range(n_processes)]  # some items are added by several
    processes = [
        context.Process(target=_add_one_by_one, args=(tmp_path, range(end - n_each, end), barrier))
        for end in ends
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)

    assert [process.exitcode for process in processes] == [0] * n_processes
    store = FeatureStore(tmp_path, 2)
    for number in range(ends[-1]):
        np.testing.assert_array_equal(store.get(_key(number)), [number, -number])
    assert (tmp_path / "index.bin").stat().st_size == ends[-1] * 40
    assert (tmp_path / "rows.bin").stat().st_size == ends[-1] * 8


def _key(number: int) -> bytes:
    return item_key(np.array([number]))


def _add_one_by_one(folder: Path, numbers: range, barrier: Any) -> None:
    store = FeatureStore(folder, 2)
    barrier.wait(60)
    for number in numbers:
        store.add([_key(number)], np.array([[number, -number]], np.float32))


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

    assert sizes == [21] and done[-1] == len(rows)
    assert found == here | {n: [items[n].sum(), 3.0] for n in rows}
    assert _encode(encoder, items, rows) == found  # here again, without the block


class _Mixing(_Sums):
    """The second feature depends on the whole batch and on the place in it."""

    def encode(self, items: Any) -> Any:
        found = super().encode(items)
        found[:, 1] = items.sum() + np.arange(len(items))
        return found


def test_an_interruption_changes_nothing_though_rows_depend_on_their_batch(tmp_path: Path) -> None:
    numbers = np.array([0, 1, 0, 2, 3, 4, 1, 5, 6, 7, 8, 0, 9, 10])
    items, rows = np.stack([numbers, numbers**2], 1).astype(np.float32), list(range(len(numbers)))
    whole = _encode(_Mixing(), items, rows, FeatureStore(tmp_path / "whole", 2))
    assert len({tuple(row) for row in whole.values()}) == len(set(numbers))

    for stop in rows:
        store, kept = FeatureStore(tmp_path / f"{stop}", 2), list[int]()

        def write(row: int, features: Any, kept: list[int] = kept, stop: int = stop) -> None:
            if len(kept) == stop:
                raise KeyboardInterrupt
            kept.append(row)

        with pytest.raises(KeyboardInterrupt):
            encode_rows(_Mixing(), items, rows, write, store=store)
        again = FeatureStore(tmp_path / f"{stop}", 2)
        assert _encode(_Mixing(), items, rows, again) == whole


def test_a_batch_whose_rows_were_stored_in_part_is_encoded_whole(tmp_path: Path) -> None:
    items, rows = np.arange(24, dtype=np.float32).reshape(8, 3), list(range(8))
    whole = _encode(_Mixing(), items, rows, FeatureStore(tmp_path, 2))
    index = tmp_path / "index.bin"
    index.write_bytes(index.read_bytes()[: 6 * 40 + 7])  # the machine lost power while writing

    assert _encode(_Mixing(), items, rows, FeatureStore(tmp_path, 2)) == whole


@pytest.mark.parametrize("is_stored", [True, False])
def test_equal_items_are_encoded_once(tmp_path: Path, is_stored: bool) -> None:
    numbers = [0, 1, 0, 2, 1, 3, 0, 4, 4]
    items = np.array([[n, n + 0.5] for n in numbers], np.float32)
    encoder, done = _Sums(), list[tuple[int, int]]()
    found: dict[int, list[float]] = {}

    encode_rows(
        encoder,
        items,
        range(len(numbers)),
        lambda n, row: found.update({n: row.tolist()}),
        store=FeatureStore(tmp_path, 2) if is_stored else None,
        progress=lambda n, total: done.append((n, total)),
    )

    assert encoder.n_batches == 2  # of four items, for five different ones
    assert found == {row: [2 * n + 0.5, 2.0] for row, n in enumerate(numbers)}
    assert done == [(0, 9), (7, 9), (9, 9)]  # first before the first batch


class _Slow(_Sums):
    """Counts how often its weights are loaded, which takes a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.n_loaded, self._lock, self._is_loaded = 0, threading.Lock(), False

    def encode(self, items: Any) -> Any:
        if not self._is_loaded:  # as functools.cached_property, which has no lock since Python 3.12
            with self._lock:
                self.n_loaded += 1
            time.sleep(0.05)
            self._is_loaded = True
        return super().encode(items)


def test_weights_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_n_cores", lambda: 4)
    encoder, items = _Slow(), np.arange(96, dtype=np.float32).reshape(32, 3)

    _encode(encoder, items, list(range(32)))

    assert encoder.n_loaded == 1
