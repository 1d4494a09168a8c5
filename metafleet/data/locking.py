"""One process at a time: a lock the operating system frees when its holder dies."""

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
