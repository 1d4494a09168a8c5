"""Reusable files of an area, which save the cost of fresh memory.

Allocating memory takes several times as long as copying data into memory that is allocated already.
When a reader no longer needs a file, the reader does not remove the file. The reader sets the file
free by renaming the file to a name that contains the file's inode number. The process that created
the file then takes the file back by another rename. This process writes the next blob through the
map that it still has, and renames the file to the name of this blob. A reader that kept its map of
the file can use this map again.
"""

import contextlib
import mmap
import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metafleet.contracts.host_files import check_file, seal_of, write_file
from metafleet.files import PART

_FREE: Final = "free-"
_FREE_TTL_S: Final = 120.0
_MOST_FREE: Final = 16
_COUNT_EVERY_S: Final = 0.05
_MOST_MAPPED: Final = 8


@dataclass(slots=True)
class _Slot:
    """An open file and its shared map."""

    handle: int
    data: mmap.mmap

    @property
    def is_gone(self) -> bool:
        """Whether the file was removed, so that only we hold its memory."""
        return os.fstat(self.handle).st_nlink == 0


class HostSlots:
    """One process's view of an area's reusable files. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._slots: OrderedDict[int, _Slot] = OrderedDict()
        self._room, self._counted_s = 0, -_COUNT_EVERY_S

    def write(self, path: Path, pieces: Sequence[memoryview], *, ttl_s: float) -> str:
        """Write a file atomically, as ``write_file`` does, reusing a free file if possible."""
        n_bytes = sum(piece.nbytes for piece in pieces)
        for inode, slot in list(self._slots.items()):
            part = self._folder / f"{PART}{uuid.uuid4().hex}"
            if len(slot.data) != n_bytes or not _renamed(self._free(inode), part):
                continue
            end = 0
            for piece in pieces:
                slot.data[end : end + piece.nbytes] = piece
                end += piece.nbytes
            expiry_s = time.time() + ttl_s
            os.utime(part, (expiry_s, expiry_s))
            os.replace(part, path)
            return seal_of(os.fstat(slot.handle))
        seal = write_file(path, pieces, ttl_s=ttl_s)
        with contextlib.suppress(OSError, ValueError):
            self._keep(path, n_bytes)
        return seal

    def map(self, path: Path, n_bytes: int, *, seal: str) -> mmap.mmap:
        """Map a file for reading. Return the same map if the file was mapped before.

        Raises:
            BlobMissingError: the file is missing, or has another length or seal.
        """
        inode = check_file(path, n_bytes, seal=seal)
        # while we hold the file open, no other file can get its inode number
        slot = self._slots.get(inode) or self._keep(path, n_bytes)
        self._slots.move_to_end(inode)
        return slot.data

    def set_free(self, path: Path) -> None:
        """Release a file for reuse. It must have no readers left. A missing file is no error."""
        with contextlib.suppress(OSError):
            expiry_s = time.time() + _FREE_TTL_S
            os.utime(path, (expiry_s, expiry_s))
            if self._has_room():
                os.replace(path, self._free(path.stat().st_ino))
                self._room -= 1
            else:
                path.unlink()

    def drop_gone(self) -> None:
        """Release the memory of removed files."""
        for inode in [inode for inode, slot in self._slots.items() if slot.is_gone]:
            os.close(self._slots.pop(inode).handle)

    def close(self) -> None:
        """Close all files. Maps in use stay valid."""
        while self._slots:
            os.close(self._slots.popitem()[1].handle)

    def _has_room(self) -> bool:
        """Return whether there are so few free files that another file may be set free.

        Listing a folder of hundreds of files takes longer than setting a file free. The free files
        are therefore counted only now and then, and the last count is used in between.
        """
        now_s = time.monotonic()
        if self._room <= 0 and now_s - self._counted_s >= _COUNT_EVERY_S:
            n_free = sum(name.startswith(_FREE) for name in os.listdir(self._folder))
            self._room, self._counted_s = _MOST_FREE - n_free, now_s
        return self._room > 0

    def _free(self, inode: int) -> Path:
        return self._folder / f"{_FREE}{inode}"

    def _keep(self, path: Path, n_bytes: int) -> _Slot:
        self.drop_gone()
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            slot = _Slot(handle, mmap.mmap(handle, n_bytes))
        except BaseException:
            os.close(handle)
            raise
        self._slots[os.fstat(handle).st_ino] = slot
        while len(self._slots) > _MOST_MAPPED:
            os.close(self._slots.popitem(last=False)[1].handle)
        return slot


def _renamed(source: Path, target: Path) -> bool:
    try:
        os.rename(source, target)
    except OSError:
        return False
    return True
