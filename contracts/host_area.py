"""The files of one run in the memory of its orchestrator's host."""

import contextlib
import mmap
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from metafleet.contracts.host_files import map_file
from metafleet.contracts.host_slots import HostSlots


class HostArea:
    """The files of one orchestrator and run, by key. Safe for many processes, not for threads.

    Args:
        folder: the area.
        sweep: removes what is old in the whole cache, now and then.
        complain: is told why a blob could not be put.
        lock: what its orchestrator holds locked; -1 for others, who do not remove the area.
    """

    def __init__(
        self,
        folder: Path,
        sweep: Callable[[], None],
        complain: Callable[[Exception], None],
        *,
        lock: int = -1,
    ) -> None:
        self._folder, self._sweep, self._complain = folder, sweep, complain
        self._slots = HostSlots(folder)
        self._lock = lock

    @property
    def name(self) -> str:
        """Name it, for workers to find it."""
        return self._folder.name

    @property
    def is_gone(self) -> bool:
        """True when its orchestrator closed it, or died and it was swept."""
        return not self._folder.exists()

    def put(self, key: str, pieces: Sequence[memoryview], *, ttl_s: float) -> str | None:
        """Write a blob; returns its seal, or None when there is no room or the area is gone."""
        self._sweep()
        try:
            return self._slots.write(self._path(key), pieces, ttl_s=ttl_s)
        except FileNotFoundError:  # closed, or of an orchestrator that died
            return None
        except OSError as error:
            self._complain(error)
            return None

    def map(self, key: str, n_bytes: int) -> mmap.mmap:
        """Map a blob privately, for as long as the map is used.

        Raises:
            BlobMissingError: it is not there.
        """
        return map_file(self._path(key), n_bytes)

    def map_sealed(self, key: str, n_bytes: int, seal: str) -> mmap.mmap:
        """Map a blob for reading, until it is set free.

        Raises:
            BlobMissingError: it is not there, or not the promised one.
        """
        return self._slots.map(self._path(key), n_bytes, seal=seal)

    def set_free(self, key: str) -> None:
        """Let a blob's memory be used for another; nobody may read it any more."""
        self._slots.set_free(self._path(key))

    def delete(self, key: str) -> None:
        """Remove a blob; quiet when it is gone. Who has mapped it keeps it."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def delete_all(self, prefix: str) -> None:
        """Remove every blob whose key begins with ``prefix``."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):
                if name.startswith(quote(prefix, safe="")):
                    with contextlib.suppress(OSError):
                        os.unlink(self._folder / name)
        self._slots.drop_gone()

    def close(self) -> None:
        """Give up its files; remove the area, if it is ours."""
        self._slots.close()
        if self._lock >= 0:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def _path(self, key: str) -> Path:
        return self._folder / quote(key, safe="")
