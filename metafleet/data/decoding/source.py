"""The place of an item's bytes: a file, a part of a file (a member of a tar), or memory."""

import os
from dataclasses import dataclass
from pathlib import Path

from metafleet.errors import DecodeError

MAX_SOURCE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class FileBytes:
    """Bytes of a file.

    Attributes:
        path: the file.
        offset: offset of the first byte.
        n_bytes: number of bytes; None for all bytes up to the end of the file.
    """

    path: Path
    offset: int = 0
    n_bytes: int | None = None


Source = FileBytes | bytes


def read_source(source: Source) -> bytes:
    """Return an item's bytes.

    Raises:
        DecodeError: the bytes cannot be read, or there are unreasonably many.
    """
    if isinstance(source, bytes):
        return source
    try:
        with source.path.open("rb") as handle:
            there = os.fstat(handle.fileno()).st_size - source.offset
            n_bytes = there if source.n_bytes is None else source.n_bytes
            if not 0 <= n_bytes <= min(there, MAX_SOURCE_BYTES):
                limit = f"{max(there, 0)} are there, at most {MAX_SOURCE_BYTES} are read"
                raise DecodeError(f"{n_bytes} bytes are asked for; {limit}")
            handle.seek(source.offset)
            return handle.read(n_bytes)
    except OSError as error:
        raise DecodeError(f"the file cannot be read: {error.strerror or error}") from error
