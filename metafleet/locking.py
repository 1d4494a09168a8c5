"""One process at a time: a lock the operating system frees when its holder dies.

The library filelock would do less here. Where a file system knows no locks it falls back on the
existence of the file, and waits without end for one that an earlier process left; and in a shared
folder with the sticky bit it refuses the file of another account, whose lock holds just as well.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs; wait for another process that holds it.

    Where the system or file system knows no such locks the block runs without: callers publish
    with an atomic rename, so at worst the same work is done twice.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as handle:
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415 - absent on Windows

            with contextlib.suppress(OSError):  # some network file systems refuse
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def exclusive_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock file ``path`` while the block runs, unless another has it.

    Gives False where another process holds it, and where there are no such locks: nothing is known
    then of who is at work.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with path.open("r+b") as handle:
        is_held = False
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415 - absent on Windows

            with contextlib.suppress(OSError):  # BlockingIOError, or a file system that refuses
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_held = True
        yield is_held
