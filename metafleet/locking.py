"""Locks between processes, which the operating system releases when their holder dies.

The library filelock is not suitable here, for two reasons. On a file system without locks, filelock
uses the existence of the file as the lock. If an earlier process left the file behind, filelock
then waits forever. In a shared folder with the sticky bit, filelock rejects a lock file of another
account, although such a file can be locked.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl


def take_lock(path: Path, *, is_waiting: bool = True) -> int:
    """Lock a file until the returned handle is closed.

    If the file is missing, it is created with permissions for its owner only.

    Raises:
        BlockingIOError: another process holds the lock, and ``is_waiting`` is false.
        OSError: the file cannot be opened, or the file system does not support locks.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(handle, is_waiting=is_waiting)
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextlib.contextmanager
def exclusive(path: Path, *, is_kept: bool = True) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs. If another process holds it, wait.

    If the operating system or the file system does not support such locks, the block runs without a
    lock. This is safe, because callers publish their work with an atomic rename. At worst, the same
    work is done twice.

    Args:
        path: the lock file, which is created if it does not exist.
        is_kept: whether the file is kept after the block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("ab") as file:
            with contextlib.suppress(OSError):  # some network file systems do not support locks
                _lock(file.fileno(), is_waiting=True)
            if not is_kept and not _is_at(path, file.fileno()):
                continue  # the previous holder has deleted the file
            try:
                yield
            finally:
                if not is_kept:
                    path.unlink(missing_ok=True)
            return


@contextlib.contextmanager
def exclusive_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock file ``path`` while the block runs, unless another process holds it.

    Yield True if the block holds the lock. Yield False if another process holds the lock. Also
    yield False if the system does not support such locks, because another process may then be in
    its block.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    with path.open("r+b") as file:
        is_held = False
        with contextlib.suppress(OSError):  # BlockingIOError, or a file system without locks
            _lock(file.fileno(), is_waiting=False)
            is_held = True
        yield is_held


def _is_at(path: Path, handle: int) -> bool:
    """Return whether a path still refers to the opened file."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(handle))
    return False


def _lock(handle: int, *, is_waiting: bool) -> None:
    if sys.platform == "win32":
        raise OSError("this system has no locks that end with their process")
    fcntl.flock(handle, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
