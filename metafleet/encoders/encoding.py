"""Encode the items of one modality in batches of a fixed size, on all cores."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.runtime import one_thread_a_call
from metafleet.encoders.store import FeatureStore, item_key
from metafleet.errors import DataError

_AT_ONCE_BYTES = 1 << 28
"""Size of the decoded items that are held in memory at the same time."""


def encode_rows(
    encoder: PretrainedEncoder,
    items: Array,
    rows: Sequence[int],
    write: Callable[[int, Array], None],
    *,
    store: FeatureStore | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Encode some rows of decoded items.

    Args:
        encoder: an encoder for items of this kind.
        items: decoded items [n, *shape]; may be memory-mapped.
        rows: numbers of the items to encode.
        write: called for each row, in order, with its number and its features, float32 [features].
        store: features that were computed earlier; newly computed ones are added.
        progress: called with the number of finished rows and the number of all rows.

    Raises:
        DataError: a feature is not finite.
        DataMissingError, DataCorruptError: weights are missing or damaged.
    """
    item_bytes = max(1, items[:1].nbytes)
    n_together = encoder.batch_items * max(1, _AT_ONCE_BYTES // (item_bytes * encoder.batch_items))
    n_together = min(n_together, encoder.batch_items * 64)
    done = 0
    with one_thread_a_call(), ThreadPoolExecutor(_n_cores()) as pool:
        for start in range(0, len(rows), n_together):
            chosen = list(rows[start : start + n_together])
            features = _features(encoder, np.asarray(items[chosen]), store, pool)
            for row, found in zip(chosen, features, strict=True):
                write(row, found)
            done += len(chosen)
            progress(done, len(rows))


def _features(
    encoder: PretrainedEncoder,
    items: Array,
    store: FeatureStore | None,
    pool: ThreadPoolExecutor,
) -> list[Array]:
    keys = [item_key(item) for item in items] if store is not None else []
    known = [store.get(key) for key in keys] if store is not None else [None] * len(items)
    missing = [number for number, row in enumerate(known) if row is None]
    size = encoder.batch_items
    parts = [missing[start : start + size] for start in range(0, len(missing), size)]
    encoded = pool.map(lambda part: encoder.encode_part(items[part]), parts)
    for part, found in zip(parts, encoded, strict=True):
        if not np.isfinite(found).all():
            raise DataError(
                f"encoder {encoder.name!r} gave features that are not finite; check its weights"
            )
        for number, row in zip(part, found, strict=True):
            known[number] = row
        if store is not None:
            store.add([keys[number] for number in part], found)
    return [row for row in known if row is not None]


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
