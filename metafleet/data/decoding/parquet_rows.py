"""Read the rows of a Parquet file in a process with a memory limit.

A file of 323 bytes can decode to 93 GiB in one row, and the sizes that it declares may be false. A
memory limit on the process holds even if these sizes are false. The limit covers the decoded
columns, the rows made from them and the reply. The limit also includes room for what the importing
process adds to each row. The importing process therefore needs no more memory than this process.
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
"""Minimum size of a row without its values, and the bytes that the importing process adds to it."""


def read_rows(path: Path, max_bytes: int) -> bytes:
    """Limit the memory of this process, then read a file.

    Times are converted to texts, because Python's types have no nanoseconds. All other values that
    are not texts, numbers, booleans, bytes, lists or mappings are converted to texts as well.

    Args:
        path: the file.
        max_bytes: memory limit of this process. macOS does not enforce this limit. On macOS,
            decoded bytes and rows are counted between batches, so a single batch may take more
            memory.

    Returns:
        Three things, serialised by ``marshal``: the column names; a mapping from column to class
        names; the rows, each a mapping from column to value.

    Raises:
        DecodeError: the file is damaged.
        DataMissingError: pyarrow is not installed.
        MemoryError: the file needs more memory. The message is one line.
    """
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # mimalloc's 1 GiB would use up the limit
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
        room.clear()  # the importing process drops the reply before it adds to the rows
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
    """Return how many rows to decode at once; fewer if the rows in the file are large."""
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
    """Return column -> class names in the order of their numbers, from Hugging Face's metadata."""
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
