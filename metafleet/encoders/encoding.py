"""Encode the items of one modality in batches of a fixed size: here on all cores, or elsewhere."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

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
        items: [n, *shape], n >= 1; batch k begins at item k * batch_items.
    """

    def __init__(self, items: Array, take: Callable[[int, Array], None]) -> None:
        self.items, self._take = items, take

    def take(self, first: int, rows: Array) -> None:
        """Keep the features float32 [m, features] of the items from ``first`` on.

        Raises:
            DataError: they are not finite, or cannot be kept.
        """
        self._take(first, rows)


Encode = Callable[[PretrainedEncoder, EncoderName, Iterator[Chunk]], None]
"""Encodes chunks and hands the features of every item to its chunk, once, in any order."""

_elsewhere: ContextVar[Encode | None] = ContextVar("encode_elsewhere", default=None)


@contextmanager
def encoding_elsewhere(encode: Encode) -> Iterator[None]:
    """Have ``encode`` compute all features in this thread that are not in a store yet."""
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
    """Encode some rows of decoded items.

    Args:
        encoder: takes such items.
        items: [n, *shape], perhaps memory-mapped.
        rows: which of them.
        write: gets each row's number and its features, float32 [features]; in order, unless they
            are computed elsewhere.
        store: features that are known already; takes those that are computed.
        name: how other processes find the encoder; None: it computes in this process only.
        progress: told how many rows are done, and how many there are.

    Raises:
        DataError: features are not finite.
        DataMissingError, DataCorruptError: weights are missing or damaged.
    """
    counter = _Counter(len(rows), progress)
    chunks = _chunks(encoder, items, rows, write, store=store, counter=counter)
    elsewhere = _elsewhere.get()
    if elsewhere is not None and name is not None:
        elsewhere(encoder, name, chunks)
    else:
        _encode_here(encoder, chunks)


def _encode_here(encoder: PretrainedEncoder, chunks: Iterator[Chunk]) -> None:
    size = encoder.batch_items
    with one_thread_a_call(), ThreadPoolExecutor(_n_cores(), initializer=limit_this_thread) as pool:
        for chunk in chunks:
            starts = range(0, len(chunk.items), size)
            parts = [chunk.items[start : start + size] for start in starts]
            for start, found in zip(starts, pool.map(encoder.encode_part, parts), strict=True):
                chunk.take(start, found)


class _Counter:
    """Counts rows that are done."""

    def __init__(self, total: int, progress: Callable[[int, int], None]) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def add(self, n_rows: int) -> None:
        self._done += n_rows
        self._progress(self._done, self._total)


def _chunks(
    encoder: PretrainedEncoder,
    items: Array,
    rows: Sequence[int],
    write: Callable[[int, Array], None],
    *,
    store: FeatureStore | None,
    counter: _Counter,
) -> Iterator[Chunk]:
    """Yield the items that no store has, in chunks that never depend on where they are encoded."""
    item_bytes = max(1, items[:1].nbytes)
    n_batches = max(1, _AT_ONCE_BYTES // (item_bytes * encoder.batch_items))
    n_together = encoder.batch_items * min(n_batches, _BATCHES_AT_ONCE)
    for start in range(0, len(rows), n_together):
        chosen = list(rows[start : start + n_together])
        found = np.asarray(items[chosen])
        keys = [item_key(item) for item in found] if store is not None else []
        missing: list[int] = []
        for number, row in enumerate(chosen):
            known = store.get(keys[number]) if store is not None else None
            if known is None:
                missing.append(number)
            else:
                write(row, known)
        if len(missing) < len(chosen):
            counter.add(len(chosen) - len(missing))
        if missing:
            names = [(chosen[number], keys[number] if keys else b"") for number in missing]
            yield Chunk(found[missing], _keeper(encoder, names, write, store, counter))


def _keeper(
    encoder: PretrainedEncoder,
    names: Sequence[tuple[int, bytes]],
    write: Callable[[int, Array], None],
    store: FeatureStore | None,
    counter: _Counter,
) -> Callable[[int, Array], None]:
    """Return what keeps the features of a chunk, given the row and the key of each item."""

    def keep(first: int, found: Array) -> None:
        if not np.isfinite(found).all():
            raise DataError(
                f"encoder {encoder.name!r} gave features that are not finite; check its weights"
            )
        own = names[first : first + len(found)]
        if store is not None:
            store.add([key for _, key in own], found)
        for (row, _), features in zip(own, found, strict=True):
            write(row, features)
        counter.add(len(found))

    return keep


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
