"""A prepared array while it is being written: rows come in any order, from any thread."""

import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from metafleet.data.decoding.base import Array
from metafleet.errors import DataError

_MAX_BYTES = 1 << 42


class RowFile:
    """An npy file of a fixed shape. Unwritten rows are zeros and take no space on disk.

    Args:
        path: the file, which is created or truncated.
        dtype: dtype of the elements.
        shape: [rows, *shape of one row].

    Raises:
        DataError: the file cannot be written, or would be unreasonably large.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._path, self.dtype = path, dtype
        self._row_bytes = dtype.itemsize * math.prod(shape[1:])
        n_bytes = self._row_bytes * shape[0]
        if n_bytes > _MAX_BYTES:
            raise DataError(f"{path.stem!r} would take {n_bytes} bytes; choose smaller items")
        with self._named_errors():
            self._handle = path.open("w+b")
            header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._handle, header)
            self._handle.flush()
            self._start = self._handle.tell()
            self._handle.truncate(self._start + n_bytes)

    def write(self, row: int, data: bytes) -> None:
        """Write one row.

        Raises:
            DataError: the disk is full or fails.
        """
        with self._named_errors():
            start, rest = self._start + row * self._row_bytes, memoryview(data)
            while rest:  # a nearly full disk accepts only a part, without an error
                n_bytes = os.pwrite(self._handle.fileno(), rest, start)
                start, rest = start + n_bytes, rest[n_bytes:]

    def load(self) -> Array:
        """Memory-map the whole array, read-only."""
        return np.asarray(np.load(self._path, mmap_mode="r", allow_pickle=False))

    def close(self) -> None:
        """Close the file; ``load`` still works."""
        self._handle.close()

    def _named_errors(self) -> "_WriteErrors":
        return _WriteErrors(self._path)


class _WriteErrors:
    """Converts write errors to a one-line DataError. It is a class, which is faster to enter."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            raise DataError(
                f"cannot write prepared data to {self._path.parent} ({error.strerror or error}); "
                "free space there or set METAFLEET_DATA_DIR to another folder"
            ) from error
