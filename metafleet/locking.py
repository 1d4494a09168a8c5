"""One process at a time: a lock the operating system frees when its holder dies.

The library filelock would do less here. Where a file system knows no locks it falls back on the
existence of the file, and waits without end for one that an earlier process left; and in a shared
folder with the sticky bit it refuses the file of another account, whose lock holds just as well.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl


def take_lock(path: Path, *, is_waiting: bool = True) -> int:
    """Lock a file, made for its owner alone if it is not there, until the handle is closed.

    Raises:
        BlockingIOError: another process holds it, and we do not wait.
        OSError: the file cannot be opened, or the file system knows no locks.
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
    """Hold the lock file ``path`` while the block runs; wait for another process that holds it.

    Where the system or file system knows no such locks the block runs without: callers publish
    with an atomic rename, so at worst the same work is done twice.

    Args:
        path: the lock file; made if it is not there.
        is_kept: whether it stays after the block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("ab") as file:
            with contextlib.suppress(OSError):  # some network file systems refuse
                _lock(file.fileno(), is_waiting=True)
            if not is_kept and not _is_at(path, file.fileno()):
                continue  # the process that held it before us has deleted it
            try:
                yield
            finally:
                if not is_kept:
                    path.unlink(missing_ok=True)
            return


@contextlib.contextmanager
def exclusive_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock file ``path`` while the block runs, unless another has it.

    Gives False where another process holds it, and where there are no such locks: nothing is known
    then of who is at work.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with path.open("r+b") as file:
        is_held = False
        with contextlib.suppress(OSError):  # BlockingIOError, or a file system that refuses
            _lock(file.fileno(), is_waiting=False)
            is_held = True
        yield is_held


def _is_at(path: Path, handle: int) -> bool:
    """Return whether a path still names the file that was opened."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(handle))
    return False


def _lock(handle: int, *, is_waiting: bool) -> None:
    if sys.platform == "win32":
        raise OSError("this system has no locks that end with their process")
    fcntl.flock(handle, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
