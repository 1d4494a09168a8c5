"""Encode the items of one modality in batches of a fixed size, on all cores."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.runtime import one_thread_a_call
from metafleet.encoders.store import FeatureStore, item_key
from metafleet.errors import DataError

_AT_ONCE_BYTES = 1 << 28
"""Decoded items that are held in memory at a time."""


@dataclass(frozen=True, slots=True)
class Frames:
    """An image encoder as an encoder of clips: the mean of the features of the frames.

    Attributes:
        encoder: takes pictures.
    """

    encoder: PretrainedEncoder

    def encode(self, items: Array) -> Array:
        """Encode clips uint8 [n, frames, channels, side, side], a batch of frames at a time."""
        flat = items.reshape(-1, *items.shape[2:])
        rows = np.concatenate([_padded(self.encoder, part) for part in _batches(self.encoder, flat)])
        return rows.reshape(*items.shape[:2], -1).mean(axis=1)


def n_features(encoder: PretrainedEncoder, kind: str, shape: tuple[int, ...]) -> int:
    """Return the number of features of a decoded item. Raises as ``PretrainedEncoder``."""
    return encoder.n_features(shape[1:] if kind == "video" else shape)


def encode_rows(
    encoder: PretrainedEncoder,
    kind: str,
    items: Array,
    rows: Sequence[int],
    write: Callable[[int, Array], None],
    *,
    store: FeatureStore | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Encode some rows of decoded items.

    Args:
        encoder: takes this kind.
        kind: of the items.
        items: [n, *shape], perhaps memory-mapped.
        rows: which of them.
        write: gets each row's number and its features, float32 [features], in order.
        store: features that are known already; takes those that are computed.
        progress: told how many rows are done, and how many there are.

    Raises:
        DataError: features are not finite.
        DataMissingError, DataCorruptError: weights are missing or damaged.
    """
    item_bytes = max(1, items[:1].nbytes)
    n_together = encoder.batch_items * max(1, _AT_ONCE_BYTES // (item_bytes * encoder.batch_items))
    n_together = min(n_together, encoder.batch_items * 64)
    done = 0
    with one_thread_a_call(), ThreadPoolExecutor(_n_cores()) as pool:
        for start in range(0, len(rows), n_together):
            chosen = list(rows[start : start + n_together])
            features = _features(encoder, kind, np.asarray(items[chosen]), store, pool)
            for row, found in zip(chosen, features, strict=True):
                write(row, found)
            done += len(chosen)
            progress(done, len(rows))


def _features(
    encoder: PretrainedEncoder,
    kind: str,
    items: Array,
    store: FeatureStore | None,
    pool: ThreadPoolExecutor,
) -> list[Array]:
    keys = [item_key(item) for item in items] if store is not None else []
    known = [store.get(key) for key in keys] if store is not None else [None] * len(items)
    missing = [number for number, row in enumerate(known) if row is None]
    encode = Frames(encoder).encode if kind == "video" else _encode_with(encoder)
    parts = [missing[start : start + encoder.batch_items] for start in _starts(encoder, missing)]
    for part, found in zip(parts, pool.map(lambda p: encode(items[p]), parts), strict=True):
        if not np.isfinite(found).all():
            raise DataError(
                f"encoder {encoder.name!r} gave features that are not finite; check its weights"
            )
        for number, row in zip(part, found, strict=True):
            known[number] = row
        if store is not None:
            store.add([keys[number] for number in part], found)
    return [row for row in known if row is not None]


def _encode_with(encoder: PretrainedEncoder) -> Callable[[Array], Array]:
    return lambda items: _padded(encoder, items)


def _padded(encoder: PretrainedEncoder, items: Array) -> Array:
    """Encode a batch; one that is short is filled up with its last item, for the same bits."""
    lacking = encoder.batch_items - len(items)
    full = items if lacking == 0 else np.concatenate([items, np.repeat(items[-1:], lacking, 0)])
    return encoder.encode(full)[: len(items)]


def _batches(encoder: PretrainedEncoder, items: Array) -> Iterator[Array]:
    return (items[start : start + encoder.batch_items] for start in _starts(encoder, items))


def _starts(encoder: PretrainedEncoder, items: Sequence[int] | Array) -> range:
    return range(0, len(items), encoder.batch_items)


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
