"""Encode the items of one modality in batches of a fixed size, on all cores or on a fleet."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.choice import EncoderName
from metafleet.encoders.runtime import limit_this_thread, one_thread_a_call
from metafleet.encoders.store import FeatureStore, item_key
from metafleet.errors import DataError

_AT_ONCE_BYTES = 1 << 28
"""Decoded items that are held in memory at a time."""

_BATCHES_AT_ONCE = 64


class Chunk:
    """Some items to encode, in batches.

    Attributes:
        items: [n, *shape], n >= 1. Batch k begins at item k * batch_items, where batch_items is the
            encoder's.
    """

    def __init__(self, items: Array, take: Callable[[int, Array], None]) -> None:
        self.items, self._take = items, take

    def take(self, first: int, rows: Array) -> None:
        """Store ``rows``, float32 [m, features], the features of m items from item ``first`` on.

        Raises:
            DataError: a feature is not finite, or the features cannot be stored.
        """
        self._take(first, rows)


Encode = Callable[[PretrainedEncoder, EncoderName, Iterator[Chunk]], None]
"""Encodes chunks and hands the features of every item to its chunk, once, in any order."""

_elsewhere: ContextVar[Encode | None] = ContextVar("encode_elsewhere", default=None)


@contextmanager
def encoding_elsewhere(encode: Encode) -> Iterator[None]:
    """In this thread, let ``encode`` compute the batches that no store has yet."""
    token = _elsewhere.set(encode)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def encode_rows(  # noqa: PLR0913 - each is a seam
    encoder: PretrainedEncoder,
    items: Array,
    rows: Sequence[int],
    write: Callable[[int, Array], None],
    *,
    store: FeatureStore | None = None,
    name: EncoderName | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Encode the given rows of decoded items. Equal items are encoded once.

    The items are divided into batches in the order of ``rows``, without repeated items. The
    division does not depend on which features the store has. If the store lacks one item of a
    batch, the whole batch is encoded. The features are therefore the same after an interruption,
    even if an item's features depend on the other items of its batch.

    Args:
        encoder: an encoder of such items.
        items: decoded items, [n, *shape]. The array can be memory-mapped.
        rows: row numbers of the items to encode.
        write: called with each row's number and its features, float32 [features], in any order.
        store: the store of known features. Newly computed features are added to the store.
        name: how other processes find the encoder; None to encode in this process only.
        progress: called with the number of rows that are done and the number of all rows.

    Raises:
        DataError: a feature is not finite.
        DataMissingError, DataCorruptError: weights are missing or damaged.
    """
    keeping = _Keeping(encoder, _rows_of(items, rows), len(rows), write, store, progress)
    chunks = _chunks(encoder, items, keeping)
    elsewhere = _elsewhere.get()
    if elsewhere is not None and name is not None:
        elsewhere(encoder, name, chunks)
    else:
        _encode_here(encoder, chunks)


def _encode_here(encoder: PretrainedEncoder, chunks: Iterator[Chunk]) -> None:
    size, is_loaded = encoder.batch_items, False
    with one_thread_a_call(), ThreadPoolExecutor(_n_cores(), initializer=limit_this_thread) as pool:
        for chunk in chunks:
            starts = list(range(0, len(chunk.items), size))
            parts = [chunk.items[start : start + size] for start in starts]
            if not is_loaded:  # the first batch loads the weights: not in several threads at once
                chunk.take(starts.pop(0), encoder.encode_part(parts.pop(0)))
                is_loaded = True
            for start, found in zip(starts, pool.map(encoder.encode_part, parts), strict=True):
                chunk.take(start, found)


def _rows_of(items: Array, rows: Sequence[int]) -> dict[bytes, list[int]]:
    """Return the rows of each different item, by its key, in the order of first occurrence."""
    found: dict[bytes, list[int]] = {}
    for row in rows:
        found.setdefault(item_key(np.asarray(items[row])), []).append(row)
    return found


@dataclass(slots=True)
class _Keeping:
    """Writes the features of each row. The features come from the store or from encoded batches.

    Attributes:
        rows_of: key of an item -> the rows that hold this item. Equal items have the same key.
        n_rows, n_done: number of all rows, and number of rows that are written.
    """

    encoder: PretrainedEncoder
    rows_of: Mapping[bytes, Sequence[int]]
    n_rows: int
    write: Callable[[int, Array], None]
    store: FeatureStore | None
    progress: Callable[[int, int], None]
    n_done: int = 0

    def write_known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Write the features of these items that the store has; return the keys of those items."""
        if self.store is None:
            return set()
        found = {key: self.store.get(key) for key in keys}
        known = {key: features for key, features in found.items() if features is not None}
        self._write(known)
        return set(known)

    def keep(self, keys: Sequence[bytes], known: set[bytes], found: Array) -> None:
        """Store features of items, and write the features of rows that are not written yet.

        Raises:
            DataError: a feature is not finite, or the features cannot be stored.
        """
        if not np.isfinite(found).all():
            raise DataError(
                f"encoder {self.encoder.name!r} gave features that are not finite; check its "
                "weights"
            )
        if self.store is not None:
            self.store.add(keys, found)
        self._write({k: row for k, row in zip(keys, found, strict=True) if k not in known})

    def _write(self, found: Mapping[bytes, Array]) -> None:
        for key, features in found.items():
            for row in self.rows_of[key]:
                self.write(row, features)
        if found:
            self.n_done += sum(len(self.rows_of[key]) for key in found)
            self.progress(self.n_done, self.n_rows)


def _chunks(encoder: PretrainedEncoder, items: Array, keeping: _Keeping) -> Iterator[Chunk]:
    """Yield the batches that the store lacks wholly or in part."""
    size, keys = encoder.batch_items, list(keeping.rows_of)
    n_batches = max(1, _AT_ONCE_BYTES // (max(1, items[:1].nbytes) * size))
    n_together = size * min(n_batches, _BATCHES_AT_ONCE)
    for start in range(0, len(keys), n_together):
        near = keys[start : start + n_together]
        known = keeping.write_known(near)
        batches = (near[first : first + size] for first in range(0, len(near), size))
        lacking = [key for batch in batches if not known.issuperset(batch) for key in batch]
        if lacking:
            keeping.progress(keeping.n_done, keeping.n_rows)  # the next batch may take long
            chosen = [keeping.rows_of[key][0] for key in lacking]
            yield Chunk(np.asarray(items[chosen]), _taking(keeping, lacking, known))


def _taking(
    keeping: _Keeping, keys: Sequence[bytes], known: set[bytes]
) -> Callable[[int, Array], None]:
    def take(first: int, found: Array) -> None:
        keeping.keep(keys[first : first + len(found)], known, found)

    return take


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
