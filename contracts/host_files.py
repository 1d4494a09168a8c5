"""Writes, maps, seals and expires files in memory that the processes of one host share.

A file appears only when it is complete. Files are written with ``writev`` and never through a map,
so that a full tmpfs causes an error instead of SIGBUS. The modification time of a file is the time
at which it expires.
"""

import contextlib
import mmap
import os
import stat
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from metafleet.errors import BlobMissingError
from metafleet.files import PART

LOCK: Final = "lock"
"""The only file of a folder that never expires. Its owner holds a lock on it."""

_UNFINISHED_S: Final = 600.0
_MOST_PIECES: Final = 512
_MOST_BYTES: Final = 2**30


def write_file(path: Path, pieces: Sequence[memoryview], *, ttl_s: float) -> str:
    """Write a file that only its owner can access, and rename it to ``path`` when it is complete.

    Returns:
        The seal of the file, which identifies it in signed messages. The seal consists of values
        that only the kernel sets. A file that replaces this one has another seal. The content needs
        no digest, because only the file's owner can write to the file.

    Raises:
        OSError: the memory is full, or the folder no longer exists. No file is left behind.
    """
    part = path.with_name(f"{PART}{uuid.uuid4().hex}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_all(handle, pieces)
        expiry_s = time.time() + ttl_s
        os.utime(handle, (expiry_s, expiry_s))
        os.replace(part, path)
        return seal_of(os.fstat(handle))
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    finally:
        os.close(handle)


def map_file(path: Path, n_bytes: int, *, seal: str = "") -> mmap.mmap:
    """Map a file privately: writes to the map do not change the file.

    Args:
        path: the file.
        n_bytes: the required length, > 0.
        seal: the required seal; "" for any.

    Raises:
        BlobMissingError: the file is missing, or has another length, seal or owner.
    """
    handle, _ = _open_checked(path, n_bytes, seal)
    try:
        return mmap.mmap(handle, n_bytes, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:  # no room in the address space, or an empty file
        raise BlobMissingError(f"{path.name} cannot be mapped ({error})") from error
    finally:
        os.close(handle)


def check_file(path: Path, n_bytes: int, *, seal: str) -> int:
    """Check a file like ``map_file`` and return its inode. Raises the same errors."""
    handle, facts = _open_checked(path, n_bytes, seal)
    os.close(handle)
    return facts.st_ino


def is_own(facts: os.stat_result) -> bool:
    """Return whether only this user can read or write a file or folder."""
    return facts.st_uid == os.geteuid() and not stat.S_IMODE(facts.st_mode) & 0o077


def sweep_expired(folder: Path, *, now_s: float) -> None:
    """Remove expired files, and unfinished ones (names with a leading dot) after a while."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                facts = entry.stat(follow_symlinks=False)
                limit_s = now_s - (_UNFINISHED_S if entry.name.startswith(".") else 0.0)
                is_old = stat.S_ISREG(facts.st_mode) and facts.st_mtime < limit_s
                if is_old and entry.name != LOCK:
                    os.unlink(entry.path)


def _write_all(handle: int, pieces: Sequence[memoryview]) -> None:
    waiting = [piece for piece in pieces if piece.nbytes]
    waiting.reverse()
    while waiting:
        batch, n_batch = [], 0
        for piece in reversed(waiting[-_MOST_PIECES:]):
            if n_batch and n_batch + piece.nbytes > _MOST_BYTES:
                break
            batch.append(piece[:_MOST_BYTES])
            n_batch += piece.nbytes
        written = os.writev(handle, batch)
        while waiting and written >= waiting[-1].nbytes:
            written -= waiting.pop().nbytes
        if written:
            waiting[-1] = waiting[-1][written:]


def seal_of(facts: os.stat_result) -> str:
    """Return an id of this file that changes when the file is renamed or replaced."""
    return f"{facts.st_dev}:{facts.st_ino}:{facts.st_ctime_ns}"


def _open_checked(path: Path, n_bytes: int, seal: str) -> tuple[int, os.stat_result]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise BlobMissingError(f"{path.name} is not on this host ({error.strerror})") from error
    facts = os.fstat(handle)
    if not is_own(facts) or facts.st_size != n_bytes or seal not in ("", seal_of(facts)):
        os.close(handle)
        raise BlobMissingError(
            f"{path.name} on this host is not the promised one of {n_bytes} bytes"
        )
    return handle, facts
