"""The rows of a Parquet file, read in a process to which the system gives only so much memory.

A file of 323 bytes can decode to 93 GiB in one row, and what it says of its sizes need not be true.
A limit of the process holds whatever the file says. It covers the decoded columns, the rows made of
them, the answer, and room for what the importing process adds to each row, so that process needs no
more.
"""

import contextlib
import json
import marshal
import os
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metafleet.data.decoding.base import import_library
from metafleet.errors import DecodeError

_BATCH_BYTES, _BATCH_ROWS = 1 << 24, 1 << 16
_ROW_BYTES, _ADDED_BYTES = 200, 280
"""The least that a row takes besides its values; what the importing process adds to it."""


def read_rows(path: Path, max_bytes: int) -> bytes:
    """Read a file, in a process that limits its own memory from here on.

    Times become texts, since Python's own hold no nanoseconds. So does a value that is no text,
    number, truth value, bytes, list or mapping.

    Args:
        path: the file.
        max_bytes: memory of this process. macOS does not enforce it: there, decoded bytes and rows
            are counted between batches, and a single batch may take more.

    Returns:
        Names of columns; column -> names of its classes; rows, column -> value; by ``marshal``.

    Raises:
        DecodeError: it is damaged.
        DataMissingError: pyarrow is not installed.
        MemoryError: it takes more memory; one line.
    """
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # mimalloc reserves 1 GiB, which counts
    pyarrow = import_library("pyarrow", package="pyarrow", extra="parquet")
    parquet = import_library("pyarrow.parquet", package="pyarrow", extra="parquet")
    with contextlib.suppress(ValueError):  # the limit is lower already, or cannot be set
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    rows: list[dict[str, Any]] = []
    room: list[bytearray] = []  # counts against the limit, but is never written to
    try:
        opened = parquet.ParquetFile(path, buffer_size=1 << 16)
        n_bytes = 0
        for batch in opened.iter_batches(_batch_rows(opened, path), use_threads=False):
            n_bytes += batch.nbytes + (_ROW_BYTES + _ADDED_BYTES) * batch.num_rows
            if n_bytes > max_bytes:
                raise MemoryError
            room.append(bytearray(_ADDED_BYTES * batch.num_rows))
            rows += _rows(pyarrow, batch)
        room.clear()  # the importing process drops the answer before it adds to the rows
        schema = opened.schema_arrow
        return _packed([schema.names, _class_names(schema.metadata), rows])
    except MemoryError:
        n_rows = len(rows)
        rows.clear()
        room.clear()
        raise MemoryError(
            f"takes too much memory after row {n_rows}; expected at most {max_bytes} bytes: split "
            "it into several files or drop columns"
        ) from None
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise DecodeError(f"is no sound Parquet file ({reason})") from error


def _batch_rows(opened: Any, path: Path) -> int:
    """Return how many rows to decode at once; few where each is large in the file."""
    n_rows: int = opened.metadata.num_rows * _BATCH_BYTES // path.stat().st_size
    return max(1, min(_BATCH_ROWS, n_rows))


def _rows(pyarrow: Any, batch: Any) -> Iterator[dict[str, Any]]:
    columns = [
        column.cast(pyarrow.string()) if pyarrow.types.is_temporal(column.type) else column
        for column in batch.columns
    ]
    for values in zip(*(column.to_pylist() for column in columns), strict=True):
        yield dict(zip(batch.schema.names, values, strict=True))


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return column -> names of its classes by their numbers, as Hugging Face's files keep them."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _packed(content: Any) -> bytes:
    try:
        return marshal.dumps(content)
    except ValueError:
        return marshal.dumps(_plain(content))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | bytes | int | float | None) else str(value)
