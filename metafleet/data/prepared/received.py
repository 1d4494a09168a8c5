"""Deletes, on a worker's host, copies of features that no run has used for a while.

The modification time of a copy's folder is the time of the copy's last use. Workers renew this time
while they compute jobs with the copy. The copy that a running job uses is therefore never deleted.
"""

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from metafleet.locking import exclusive_if_free

NOTE_EVERY_S: Final = 3600.0
"""How often workers renew the time of last use."""
_DAY_S: Final = 86400.0
_COPY: Final = re.compile(r"[0-9a-f]{64}")


def received_folder(data_dir: Path) -> Path:
    """Return the folder of all copies."""
    return data_dir / "received"


def note_use(copy: Path) -> None:
    """Record that a copy is in use now, unless it belongs to another user."""
    with contextlib.suppress(OSError):
        os.utime(copy)


def delete_unused(data_dir: Path, *, unused_days: float) -> list[Path]:
    """Delete copies last used more than ``unused_days`` days ago; return their folders.

    A copy that another process is receiving is left alone.
    """
    deleted = []
    for copy in _copies(data_dir):
        with (
            contextlib.suppress(OSError),
            exclusive_if_free(copy.with_name(f".{copy.name}.lock")) as is_held,
        ):
            if not is_held or time.time() - copy.stat().st_mtime <= unused_days * _DAY_S:
                continue
            # renamed first, so that no process opens half of it; the next transfer sweeps leftovers
            dropped = copy.with_name(f".{copy.name}.{secrets.token_hex(4)}")
            copy.rename(dropped)
            shutil.rmtree(dropped, ignore_errors=True)
            deleted.append(copy)
    return deleted


def measure_received(data_dir: Path) -> tuple[int, int]:
    """Return the number of copies, and the bytes of their files."""
    copies = list(_copies(data_dir))
    n_bytes = 0
    for path in (path for copy in copies for path in copy.rglob("*")):
        with contextlib.suppress(OSError):  # deleted meanwhile
            n_bytes += path.stat().st_size if path.is_file() else 0
    return len(copies), n_bytes


def _copies(data_dir: Path) -> Iterator[Path]:
    folder = received_folder(data_dir)
    if folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if _COPY.fullmatch(path.name))
