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
    """The files in memory through which one orchestrator exchanges the tensors of one run.

    Several processes can use an area at the same time, but several threads of a process cannot.

    Args:
        folder: the area's folder.
        sweep: a function that removes old files from the whole cache now and then.
        complain: called with the reason why a blob could not be put.
        lock: file descriptor of the lock that the area's orchestrator holds; -1 in other processes.
            A process without the lock does not remove the area.
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
        """The name by which workers find it."""
        return self._folder.name

    @property
    def is_gone(self) -> bool:
        """Whether it was removed: its orchestrator closed it, or died and the area was swept."""
        return not self._folder.exists()

    def put(self, key: str, pieces: Sequence[memoryview], *, ttl_s: float) -> str | None:
        """Write a blob. Return its seal; None if there is no room or the area is gone."""
        self._sweep()
        try:
            return self._slots.write(self._path(key), pieces, ttl_s=ttl_s)
        except FileNotFoundError:  # the orchestrator closed it or died
            return None
        except OSError as error:
            self._complain(error)
            return None

    def map(self, key: str, n_bytes: int) -> mmap.mmap:
        """Map a blob privately. The map stays valid after the blob is deleted.

        Raises:
            BlobMissingError: the blob does not exist or has another length.
        """
        return map_file(self._path(key), n_bytes)

    def map_sealed(self, key: str, n_bytes: int, seal: str) -> mmap.mmap:
        """Map a blob for reading. The map is valid until ``set_free`` is called for the blob.

        Raises:
            BlobMissingError: the blob is missing, or has another length or seal.
        """
        return self._slots.map(self._path(key), n_bytes, seal=seal)

    def set_free(self, key: str) -> None:
        """Release a blob's memory for reuse. The blob must have no readers left."""
        self._slots.set_free(self._path(key))

    def delete(self, key: str) -> None:
        """Remove a blob. Existing maps stay valid; a missing blob is no error."""
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
        """Close its files, and remove the area if this process owns it."""
        self._slots.close()
        if self._lock >= 0:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def _path(self, key: str) -> Path:
        return self._folder / quote(key, safe="")
