"""One modality of one item: where its bytes lie, and how to read them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from metafleet.data.decoding.source import FileBytes, Source, read_source


class Part(Protocol):
    """What a decoder reads."""

    @property
    def name(self) -> str:
        """Return what messages call it, relative to the folder, with the suffix of its content."""
        ...

    @property
    def stamp(self) -> str:
        """Return a text that changes when the bytes do, found without reading a file's bytes."""
        ...

    def source(self) -> Source:
        """Return where the bytes are, or the bytes."""
        ...

    def read(self) -> bytes:
        """Return the bytes.

        Raises:
            DecodeError: the file went away or cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file.

    Attributes:
        path: where it is.
        name: relative to the folder.
        n_bytes, mtime_ns: as they were when it was found.
    """

    path: Path
    name: str
    n_bytes: int
    mtime_ns: int

    @property
    def stamp(self) -> str:
        """Return size and time of the last change."""
        return f"{self.n_bytes}:{self.mtime_ns}"

    def source(self) -> Source:
        """Return the file, read whole."""
        return FileBytes(self.path)

    def read(self) -> bytes:
        """Return the file's bytes."""
        return read_source(self.source())


@dataclass(frozen=True, slots=True)
class SlicePart:
    """A run of bytes in a file: a member of an uncompressed tar.

    Attributes:
        archive: the file.
        offset: of the first byte.
        n_bytes: how many.
        member: what they are called in the file.
    """

    archive: FilePart
    offset: int
    n_bytes: int
    member: str

    @property
    def name(self) -> str:
        """Return archive and member."""
        return f"{self.archive.name}/{self.member}"

    @property
    def stamp(self) -> str:
        """Return the archive's stamp and the place in it."""
        return f"{self.archive.stamp}:{self.offset}:{self.n_bytes}"

    def source(self) -> Source:
        """Return the place in the file."""
        return FileBytes(self.archive.path, self.offset, self.n_bytes)

    def read(self) -> bytes:
        """Return the bytes."""
        return read_source(self.source())


@dataclass(frozen=True, slots=True)
class InlinePart:
    """Bytes that the row itself held: a sentence, or numbers.

    Attributes:
        name: row and column, with the suffix of the content.
        content: the bytes.
    """

    name: str
    content: bytes

    @property
    def stamp(self) -> str:
        """Return the sha256 of the bytes."""
        return hashlib.sha256(self.content).hexdigest()

    def source(self) -> Source:
        """Return the bytes."""
        return self.content

    def read(self) -> bytes:
        """Return the bytes."""
        return self.content


def find_file(folder: Path, name: str) -> FilePart | None:
    """Look for ``folder/name``; None where there is no such file."""
    path = folder / name
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    if not path.is_file():
        return None
    return FilePart(path, name, found.st_size, found.st_mtime_ns)
