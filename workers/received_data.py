"""Opens the features of a run: from this host's data folder, or received from the orchestrator."""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

from metafleet.cancellation import stop_if_unwanted
from metafleet.contracts.blobs import BlobStore
from metafleet.contracts.direct_client import DirectClient, DirectRoute
from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.settings import RECEIVED_DAYS
from metafleet.data.prepared.data_ref import DataRef, find_by_digest, receive
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.prepared.received import (
    NOTE_EVERY_S,
    delete_unused,
    note_use,
    received_folder,
)
from metafleet.data.registry import Given, give
from metafleet.errors import BlobMissingError, DataCorruptError, FeaturesMissingError

log = logging.getLogger(__name__)


class ReceivedData:
    """The features that runs need on this host. The host receives features and never computes them.

    Args:
        blobs: the store that every host reaches.
        data_dir: folder of the prepared data, in which received features are kept.
        direct: direct connection to the orchestrator; None if there is none.
        allowed_packages: user packages from which kinds of data may be imported.
        unused_days: number of days without use after which a copy of features is deleted.
    """

    def __init__(
        self,
        blobs: BlobStore,
        data_dir: Path,
        *,
        direct: DirectClient | None = None,
        allowed_packages: tuple[str, ...] = (),
        unused_days: int = RECEIVED_DAYS,
    ) -> None:
        self._blobs, self._data_dir, self._unused_days = blobs, data_dir, unused_days
        self._used: dict[str, list[Path]] = {}
        """Plan -> the copies that its workload reads."""
        self._noted_s: dict[str, float] = {}
        self._direct, self._allowed_packages = direct or DirectClient(""), allowed_packages

    def open(self, job: InnerLoopJob, refs: Sequence[DataRef]) -> Given:
        """Open the data that a job's plan describes.

        Raises:
            FeaturesMissingError: the features are neither on this host nor in the stores, or they
                were damaged during the transfer.
            DataError: the features cannot be written to this host's data folder.
        """
        found = [(ref, self._find(job, ref)) for ref in refs]
        parent = received_folder(self._data_dir)
        self._used[job.plan] = [data.path for _, data in found if data.path.parent == parent]
        self._noted_s.pop(job.plan, None)
        self.note_use(job.plan)
        return give(found, allowed_packages=self._allowed_packages)

    def note_use(self, plan: str) -> None:
        """Record that a job of this plan uses its copies, at most once an hour."""
        now_s = time.monotonic()
        if now_s - self._noted_s.get(plan, -math.inf) < NOTE_EVERY_S:
            return
        self._noted_s[plan] = now_s
        for copy in self._used.get(plan, ()):
            note_use(copy)

    def _find(self, job: InnerLoopJob, ref: DataRef) -> PreparedData:
        found = find_by_digest(self._data_dir, ref)
        if found is not None:
            return found
        keys, route = RunKeys(job.run), self._direct.to(job.direct)

        def fetch(file: str, number: int, length: int) -> bytes | bytearray:
            stop_if_unwanted()
            return self._fetch(keys.data(ref.sha256, file, number), length, route)

        try:
            received = receive(self._data_dir, ref, fetch)
        except (BlobMissingError, DataCorruptError) as error:
            raise FeaturesMissingError(
                f"the features of {ref.label!r} are not on this host ({error})"
            ) from error
        log.info("received the features of %s: %s", ref.label, received.path)
        for copy in delete_unused(self._data_dir, unused_days=self._unused_days):
            log.info("deleted features that no run used for %d days: %s", self._unused_days, copy)
        return received

    def _fetch(self, key: str, n_bytes: int, route: DirectRoute | None) -> bytes | bytearray:
        if route is not None and (came := route.fetch(key, n_bytes)):
            return came[0]  # its digest is compared once the file is whole
        return self._blobs.get(key, n_bytes)
