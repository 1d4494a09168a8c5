"""Stores features on disk by the digest of their item, so that no features are computed twice.

    <folder>/rows.bin    float32 rows, concatenated
             index.bin   for each row the sha256 of its item, then 8 bytes of the row's own digest

A row is written before its record in the index. After a crash, data behind the last complete record
of the index are overwritten. If the digest of a row does not match, the row's features are computed
again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from metafleet.digests import json_sha256
from metafleet.encoders.base import Array
from metafleet.errors import DataError
from metafleet.files import sync
from metafleet.locking import exclusive

_KEY_BYTES: Final = 32
_CHECK_BYTES: Final = 8
_RECORD_BYTES: Final = _KEY_BYTES + _CHECK_BYTES


def store_key(identity: Mapping[str, Any]) -> str:
    """Return the name of the folder for an encoder: a hash of its identity."""
    return json_sha256(identity)[:16]


def item_key(item: Array) -> bytes:
    """Return the digest of one decoded item."""
    head = f"{item.dtype.str}{item.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(item).tobytes()).digest()


class FeatureStore:
    """The stored features of one encoder. Several processes may use the same folder.

    Args:
        folder: the folder, which is created if it does not exist.
        n_features: number of features in a row.

    Raises:
        DataError: the folder cannot be read or written.
    """

    def __init__(self, folder: Path, n_features: int) -> None:
        self._folder, self._row_bytes = folder, 4 * n_features
        self._rows_path, self._index_path = folder / "rows.bin", folder / "index.bin"
        self._places: dict[bytes, tuple[int, bytes]] = {}
        self._n_known = 0
        with _named_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with exclusive(folder / "lock"):
                self._read_index()

    def get(self, key: bytes) -> Array | None:
        """Return a row, float32 [features]; None if it is missing or damaged."""
        if key not in self._places:
            return None
        number, check = self._places[key]
        with _named_errors(self._folder), self._rows_path.open("rb") as handle:
            handle.seek(number * self._row_bytes)
            data = handle.read(self._row_bytes)
        return np.frombuffer(data, np.float32) if _check_of(data) == check else None

    def add(self, keys: Sequence[bytes], rows: Array) -> None:
        """Store rows, float32 [n, features], each once, either completely or not at all."""
        every = [row.tobytes() for row in np.ascontiguousarray(rows, np.float32)]
        by_key = dict(zip(keys, every, strict=True))
        with _named_errors(self._folder), exclusive(self._folder / "lock"):
            self._read_index()
            keys = [key for key in by_key if self.get(key) is None]
            parts = [by_key[key] for key in keys]
            for path, data, start in (
                (self._rows_path, b"".join(parts), self._n_known * self._row_bytes),
                (
                    self._index_path,
                    b"".join(k + _check_of(p) for k, p in zip(keys, parts, strict=True)),
                    self._n_known * _RECORD_BYTES,
                ),
            ):
                with path.open("r+b" if path.exists() else "w+b") as handle:
                    handle.truncate(start)
                    handle.seek(start)
                    handle.write(data)
                sync(path)
            self._read_index()

    def _read_index(self) -> None:
        """Read the complete records that this or another process has added."""
        if not self._index_path.exists() or not self._rows_path.exists():
            return
        n_rows = self._rows_path.stat().st_size // self._row_bytes
        with self._index_path.open("rb") as handle:
            handle.seek(self._n_known * _RECORD_BYTES)
            data = handle.read()
        n_records = min(len(data) // _RECORD_BYTES, n_rows - self._n_known)
        for number in range(n_records):
            record = data[number * _RECORD_BYTES : (number + 1) * _RECORD_BYTES]
            place = self._n_known + number
            self._places[record[:_KEY_BYTES]] = (place, record[_KEY_BYTES:])
        self._n_known += max(n_records, 0)


def _check_of(row: bytes) -> bytes:
    return hashlib.sha256(row).digest()[:_CHECK_BYTES]


class _named_errors:
    """Convert errors of a full or unreadable disk to a one-line ``DataError``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise DataError(
                f"features cannot be kept in {self._folder} ({error.strerror or error}); free "
                "space there or set METAFLEET_DATA_DIR to another folder"
            ) from error
