"""Files of an area that are used again and again, so that their memory need not be made anew.

Fresh memory costs several times what copying into it does. So a file whose reader is done with it
is not removed but set free, under a name made of its inode; the process that made it takes it back
by renaming it, writes through the map it still has, and renames it to the next blob's name. A
reader that kept its map needs no new one either.
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
    """A file held open, and its shared map."""

    handle: int
    data: mmap.mmap

    @property
    def is_gone(self) -> bool:
        """True when the file was removed: its memory is held by us alone."""
        return os.fstat(self.handle).st_nlink == 0


class HostSlots:
    """One process's view of an area's reusable files. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._slots: OrderedDict[int, _Slot] = OrderedDict()
        self._room, self._counted_s = 0, -_COUNT_EVERY_S

    def write(self, path: Path, pieces: Sequence[memoryview], *, ttl_s: float) -> str:
        """Write a file whole, as ``write_file`` does, into memory that is there if possible."""
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
        """Map a file for reading, again by the same map when it is one read before.

        Raises:
            BlobMissingError: it is not there, or not the one that ``seal`` vouches for.
        """
        inode = check_file(path, n_bytes, seal=seal)
        # as long as we hold the file its inode's number cannot be another's
        slot = self._slots.get(inode) or self._keep(path, n_bytes)
        self._slots.move_to_end(inode)
        return slot.data

    def set_free(self, path: Path) -> None:
        """Let the file be written to again; nobody may read it any more. Quiet when it is gone."""
        with contextlib.suppress(OSError):
            expiry_s = time.time() + _FREE_TTL_S
            os.utime(path, (expiry_s, expiry_s))
            if self._has_room():
                os.replace(path, self._free(path.stat().st_ino))
                self._room -= 1
            else:
                path.unlink()

    def drop_gone(self) -> None:
        """Give up the memory of files that were removed."""
        for inode in [inode for inode, slot in self._slots.items() if slot.is_gone]:
            os.close(self._slots.pop(inode).handle)

    def close(self) -> None:
        """Give up all files; maps in use live on."""
        while self._slots:
            os.close(self._slots.popitem()[1].handle)

    def _has_room(self) -> bool:
        """Tell whether few files are free, by a count that may be a little old.

        A folder of hundreds of files takes longer to list than a file to be set free.
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
