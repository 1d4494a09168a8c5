"""One modality of one item: where its bytes are, and how to read them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from metafleet.data.decoding.source import FileBytes, Source, read_source


class Part(Protocol):
    """The input of a decoder."""

    @property
    def name(self) -> str:
        """Return its name for messages, relative to the folder, with the suffix of its content."""
        ...

    @property
    def stamp(self) -> str:
        """Return a text that changes when the bytes change, without reading a file's bytes."""
        ...

    def source(self) -> Source:
        """Return where the bytes are, or the bytes."""
        ...

    def read(self) -> bytes:
        """Return the bytes.

        Raises:
            DecodeError: the file was removed or cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file.

    Attributes:
        path: path of the file.
        name: name of the file relative to the folder.
        n_bytes, mtime_ns: size and modification time of the file when it was found.
    """

    path: Path
    name: str
    n_bytes: int
    mtime_ns: int

    @property
    def stamp(self) -> str:
        """Return the size and the modification time."""
        return f"{self.n_bytes}:{self.mtime_ns}"

    def source(self) -> Source:
        """Return the whole file."""
        return FileBytes(self.path)

    def read(self) -> bytes:
        """Return the file's bytes."""
        return read_source(self.source())


@dataclass(frozen=True, slots=True)
class SlicePart:
    """A byte range of a file, which is a member of an uncompressed tar.

    Attributes:
        archive: the file.
        offset: offset of the first byte.
        n_bytes: number of bytes.
        member: name of the member in the archive.
    """

    archive: FilePart
    offset: int
    n_bytes: int
    member: str

    @property
    def name(self) -> str:
        """Return the names of the archive and the member."""
        return f"{self.archive.name}/{self.member}"

    @property
    def stamp(self) -> str:
        """Return the archive's stamp, the offset and the size."""
        return f"{self.archive.stamp}:{self.offset}:{self.n_bytes}"

    def source(self) -> Source:
        """Return the byte range of the archive."""
        return FileBytes(self.archive.path, self.offset, self.n_bytes)

    def read(self) -> bytes:
        """Return the bytes."""
        return read_source(self.source())


@dataclass(frozen=True, slots=True)
class InlinePart:
    """Bytes that are stored in a table row, such as a sentence or numbers.

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
    """Return the file ``folder/name``; None if there is no such file."""
    path = folder / name
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    if not path.is_file():
        return None
    return FilePart(path, name, found.st_size, found.st_mtime_ns)
