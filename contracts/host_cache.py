"""A cache in memory that the processes of one host share.

``<cache>/<area>/`` belongs to one orchestrator that executes one run. It holds the versions of the
run's state and the sums that workers on the orchestrator's host return. ``<cache>/downloads/``
holds blobs from the blob store, each downloaded once for all processes. An orchestrator removes its
area when it closes the area. If the lock of an area shows that its orchestrator has died, a sweep
removes the area.
"""

import contextlib
import logging
import mmap
import os
import shutil
import socket
import sys
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from metafleet.cancellation import stop_if_unwanted
from metafleet.contracts.host_area import HostArea
from metafleet.contracts.host_files import LOCK, is_own, map_file, sweep_expired, write_file
from metafleet.errors import BlobMissingError
from metafleet.locking import exclusive_if_free, take_lock

log = logging.getLogger(__name__)

_DOWNLOADS: Final = "downloads"
_NEW: Final = ".new-"
_SWEEP_EVERY_S: Final = 60.0
_KEPT_DOWNLOADS: Final = 3
_KEPT_AREAS: Final = 4
_DOWNLOAD_TTL_S: Final = 3600.0
_LOCK_PATIENCE_S: Final = 30.0
"""How long another process may take to download before it counts as frozen."""

_LOOK_EVERY_S: Final = 0.01
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class HostCache:
    """A folder in memory that processes of one user on one host share.

    Args:
        directory: the folder, which is created if it is missing. If other users can write to the
            folder, the folder is not used.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._next_sweep_s = 0.0
        self._has_complained = False
        self._areas: OrderedDict[str, HostArea] = OrderedDict()
        self.host_id = self._open()
        """Equal for processes that can exchange files; "" if this one cannot."""

    def open_area(self, run: str) -> HostArea | None:
        """Create an area for an orchestrator of ``run``; None if it cannot be created."""
        self.sweep()
        folder = self._directory / f"{_NEW}{uuid.uuid4().hex}"
        if not self.host_id:
            return None
        try:
            folder.mkdir(mode=0o700)
            lock = take_lock(folder / LOCK)
            # rename it only while holding its lock, so that no sweep mistakes its owner for dead
            named = folder.rename(self._directory / f"run-{uuid.uuid4().hex}")
        except OSError as error:
            self.complain(error)
            return None
        log.info("run=%s shares tensors with workers of this host in %s", run, named)
        return HostArea(named, self.sweep, self.complain, lock=lock)

    def find_area(self, host_id: str, name: str) -> HostArea | None:
        """Return an orchestrator's area; None if it is on another host."""
        if not name or not self.host_id or host_id != self.host_id:
            return None
        if name not in self._areas:
            for gone in [name for name, area in self._areas.items() if area.is_gone]:
                self._areas.pop(gone).close()  # only we still hold its memory
            self._areas[name] = HostArea(self._directory / name, self.sweep, self.complain)
            while len(self._areas) > _KEPT_AREAS:
                self._areas.popitem(last=False)[1].close()
        self._areas.move_to_end(name)
        return self._areas[name]

    def fetch_once(
        self, group: str, digest: str, n_bytes: int, download: Callable[[], bytes | bytearray]
    ) -> mmap.mmap | bytes | bytearray:
        """Return the result of ``download``, which runs once for all processes of the host.

        Args:
            group: name of the blob's group. The newest few blobs of each group are kept.
            digest: digest of the blob. The digest is part of the file's name. ``download`` must
                check that the bytes have this digest.
            n_bytes: length of the blob.
            download: gets the blob from the blob store.

        Raises:
            MetafleetError: ``download`` raised it.
        """
        folder = self._directory / _DOWNLOADS
        name = f"{quote(group, safe='')}-{digest}"
        if not self.host_id:
            return download()
        with contextlib.suppress(BlobMissingError):
            return map_file(folder / name, n_bytes)
        try:
            with _locked(folder / f".{name}.lock"):
                with contextlib.suppress(BlobMissingError):  # another process downloaded it first
                    return map_file(folder / name, n_bytes)
                data = download()
                self.sweep()
                try:
                    write_file(folder / name, [memoryview(data)], ttl_s=_DOWNLOAD_TTL_S)
                    self._drop_old(folder, f"{quote(group, safe='')}-")
                    return map_file(folder / name, n_bytes)
                except (OSError, BlobMissingError) as error:
                    self.complain(error)
                    return data
        except BlockingIOError:
            log.warning("another process has been downloading %s for too long", name)
        except OSError as error:  # the lock file cannot be used
            self.complain(error)
        return download()

    def sweep(self) -> None:
        """Once a minute, remove expired files and the areas of orchestrators that died."""
        now_s = time.time()
        if not self.host_id or now_s < self._next_sweep_s:
            return
        self._next_sweep_s = now_s + _SWEEP_EVERY_S
        with contextlib.suppress(OSError):
            for folder in [path for path in self._directory.iterdir() if path.is_dir()]:
                if folder.name != _DOWNLOADS and _is_abandoned(folder, now_s):
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    sweep_expired(folder, now_s=now_s)

    def complain(self, error: Exception) -> None:
        """Log once that tensors go through the blob store, and why."""
        if not self._has_complained:
            self._has_complained = True
            log.warning(
                "tensors do not fit into %s or cannot be kept there (%s) and go through the blob "
                "store; enlarge it (docker: --shm-size) or set METAFLEET_HOST_CACHE_DIR",
                self._directory,
                error,
            )

    def _open(self) -> str:
        if sys.platform == "win32":
            return ""
        try:
            (self._directory / _DOWNLOADS).mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chmod(self._directory, 0o700, follow_symlinks=False)
            facts = os.lstat(self._directory)
        except (OSError, NotImplementedError) as error:
            self.complain(error)
            return ""
        if not is_own(facts):
            self.complain(PermissionError(f"{self._directory} is not this user's alone"))
            return ""
        return f"{_machine()}:{facts.st_dev}:{facts.st_ino}"

    def _drop_old(self, folder: Path, prefix: str) -> None:
        """Keep only the newest downloads of a group: every step brings a new state."""
        found = [path for path in folder.iterdir() if path.name.startswith(prefix)]
        ages = {path: _expiry_s(path) for path in found}
        for path in sorted(found, key=ages.__getitem__)[:-_KEPT_DOWNLOADS]:
            path.unlink(missing_ok=True)


def _machine() -> str:
    """Return an id of the running kernel. Containers on one machine share it, but not folders."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return f"{socket.gethostname()}-{uuid.getnode():x}"


def _expiry_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _lock_in_time(path: Path) -> int:
    """Lock a file, but give up after some time: the process that holds the lock may be frozen.

    Raises:
        BlockingIOError: another process held the lock for too long.
        StaleError: the result of this job is no longer wanted.
    """
    give_up_s = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            return take_lock(path, is_waiting=False)
        except BlockingIOError:
            if time.monotonic() >= give_up_s:
                raise
        stop_if_unwanted()
        time.sleep(_LOOK_EVERY_S)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = _lock_in_time(path)
    try:
        yield
    finally:
        # a process that already waits for this file still gets its lock; the next makes a new file
        path.unlink(missing_ok=True)
        os.close(handle)


def _is_abandoned(folder: Path, now_s: float) -> bool:
    """Return whether an area's orchestrator died: its lock is free or was never created."""
    try:
        with exclusive_if_free(folder / LOCK) as is_free:
            return is_free
    except FileNotFoundError:
        return folder.stat().st_mtime < now_s - _SWEEP_EVERY_S
    except OSError:
        return False
