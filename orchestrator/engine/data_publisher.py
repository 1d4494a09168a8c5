"""Publishes the features of a run's data for workers whose hosts have no copy of them."""

import logging
import mmap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from metafleet.contracts.blobs import BlobStore
from metafleet.contracts.codec import Encoded
from metafleet.contracts.keys import RunKeys
from metafleet.data.prepared.data_ref import (
    PIECE_BYTES,
    DataRef,
    files_of,
    find_by_digest,
    pieces_of,
)
from metafleet.data.registry import find_features
from metafleet.errors import DataCorruptError
from metafleet.workload_spec import WorkloadSpec

if TYPE_CHECKING:  # slow to import, most runs need none
    from metafleet.orchestrator.engine.direct_server import DirectServer

log = logging.getLogger(__name__)

_TTL_S: Final = 3600.0
_AGAIN_AFTER_S: Final = 5.0
"""Misses within this time after a publication belong to jobs that were sent before it."""


class DataPublisher:
    """Sends the features of a run, in pieces, to workers that lack them.

    No piece is put into the store before a worker has reported that it lacks the features.

    Args:
        blobs: the store that every host reaches.
        run: the run's uid.
        data_dir: folder of the prepared data.
        allowed_packages: user packages whose data sets and kinds may be imported.
        direct: offers the pieces to workers that connect directly to this host; None if direct
            transfers are not used.
    """

    def __init__(
        self,
        blobs: BlobStore,
        run: str,
        *,
        data_dir: Path,
        allowed_packages: Sequence[str] = (),
        direct: "DirectServer | None" = None,
    ) -> None:
        self._blobs, self._keys, self._direct = blobs, RunKeys(run), direct
        self._data_dir, self._allowed_packages = data_dir, tuple(allowed_packages)
        self._described: dict[str, tuple[DataRef, ...]] = {}
        self._offered: set[str] = set()
        self._stored: dict[str, int] = {}
        """Keys and lengths of the pieces in the store."""
        self._is_missed, self._published_s = False, -_AGAIN_AFTER_S

    def describe(self, spec: WorkloadSpec) -> tuple[DataRef, ...]:
        """Return descriptions of the features that a workload reads, for the workload's plan.

        Raises:
            DataError: the features cannot be opened on this host.
        """
        if spec.data_digest not in self._described:
            refs = find_features(spec.data, self._data_dir, allowed_packages=self._allowed_packages)
            if self._direct is not None:
                for ref in refs:
                    self._offer(self._direct, ref)
            self._described[spec.data_digest] = refs
        return self._described[spec.data_digest]

    def note_missed(self) -> None:
        """Record that a worker lacks the features: ``publish`` puts them into the store."""
        if time.monotonic() >= self._published_s + _AGAIN_AFTER_S:
            self._is_missed = True

    def publish(self) -> None:
        """Put the features into the store if a worker has reported that it lacks them.

        Raises:
            redis.RedisError, BlobStoreFullError: it is unknown which pieces are in the store. The
                caller must call this method again.
        """
        if not self._is_missed:
            return
        n_bytes = 0
        for ref in {ref.sha256: ref for refs in self._described.values() for ref in refs}.values():
            for path, number, length in self._pieces(ref):
                key = self._keys.data(ref.sha256, path.name, number)
                self._stored[key] = length  # even if the answer is lost
                with path.open("rb") as handle:
                    handle.seek(number * PIECE_BYTES)
                    self._blobs.put(key, handle.read(length), ttl_s=_TTL_S)
                n_bytes += length
        self._is_missed, self._published_s = False, time.monotonic()
        log.info("put %d bytes of features into the blob store for workers without them", n_bytes)

    def withdraw(self) -> None:
        """Delete the pieces from the store and offer none directly."""
        if self._direct is not None:
            for key in self._offered:
                self._direct.withdraw(key)
        for key in list(self._stored):
            self._blobs.delete(key, self._stored[key])
            del self._stored[key]

    def _pieces(self, ref: DataRef) -> Iterator[tuple[Path, int, int]]:
        """Yield (file, number of the piece, length) of every piece."""
        prepared = find_by_digest(self._data_dir, ref)
        if prepared is None:
            raise DataCorruptError(
                f"{ref.folder} in {self._data_dir} was deleted or changed while a run reads it; "
                "start the run again"
            )
        for file, n_bytes in files_of(ref, prepared).items():
            for number, length in pieces_of(n_bytes):
                yield prepared.path / file, number, length

    def _offer(self, direct: "DirectServer", ref: DataRef) -> None:
        maps: dict[Path, memoryview] = {}
        for path, number, length in self._pieces(ref):
            if path not in maps:
                with path.open("rb") as handle:
                    maps[path] = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
            start, key = number * PIECE_BYTES, self._keys.data(ref.sha256, path.name, number)
            direct.offer(key, Encoded((maps[path][start : start + length],)))
            self._offered.add(key)
