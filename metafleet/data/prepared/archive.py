"""Read an untrusted zip: nothing is unpacked, and hostile members are refused."""

import contextlib
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from metafleet.errors import DataCorruptError

_MAX_MEMBERS = 200_000
_MAX_MEMBER_BYTES = 1 << 20
_CLUTTER = ("__MACOSX", ".DS_Store")
_READ_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # unknown compression
    RuntimeError,  # encrypted
    OSError,
    ValueError,
)


class SafeZip:
    """A zip file. The names and sizes of its members are checked before any member is read.

    Args:
        path: the zip.

    Raises:
        DataCorruptError: the zip is incomplete, or a member looks like an attack: an absolute path,
            "..", a link, or an unreasonable size.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._named_errors("its directory"):
            self._zip = zipfile.ZipFile(path)
        self.names = tuple(self._check(self._zip.infolist()))

    def close(self) -> None:
        """Close the file; nothing can be read afterwards."""
        self._zip.close()

    def read(self, name: str) -> bytes:
        """Return the bytes of a member after checking its CRC.

        Raises:
            DataCorruptError: the bytes are damaged.
        """
        with self._named_errors(repr(name)):
            return self._zip.read(name)

    def _check(self, members: list[zipfile.ZipInfo]) -> Iterator[str]:
        if len(members) > _MAX_MEMBERS:
            raise self._hostile(f"{len(members)} members; expected at most {_MAX_MEMBERS}")
        for member in members:
            path = PurePosixPath(member.filename.replace("\\", "/"))
            drive = path.parts[0].endswith(":") if path.parts else False
            if path.is_absolute() or drive or ".." in path.parts:
                raise self._hostile(f"member {member.filename!r} points outside the archive")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise self._hostile(f"member {member.filename!r} is a link")
            if member.is_dir() or any(part in _CLUTTER for part in path.parts):
                continue
            if member.file_size > _MAX_MEMBER_BYTES:
                raise self._hostile(
                    f"member {member.filename!r} has {member.file_size} bytes; "
                    f"expected at most {_MAX_MEMBER_BYTES}"
                )
            yield member.filename

    def _hostile(self, why: str) -> DataCorruptError:
        return DataCorruptError(f"refused {self._path}: {why}; get the official file")

    @contextlib.contextmanager
    def _named_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except _READ_ERRORS as error:
            raise DataCorruptError(
                f"{self._path} is damaged: {what} cannot be read ({error}); "
                "delete it and get it again"
            ) from error
