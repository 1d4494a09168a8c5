"""Opens the features of a run: from this host's data folder, or received from the orchestrator."""

import logging
from collections.abc import Sequence
from pathlib import Path

from metafleet.cancellation import stop_if_unwanted
from metafleet.contracts.blobs import BlobStore
from metafleet.contracts.direct_client import DirectClient, DirectRoute
from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.keys import RunKeys
from metafleet.data.prepared.data_ref import DataRef, find_by_digest, receive
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.registry import Given, give
from metafleet.errors import BlobMissingError, DataCorruptError, FeaturesMissingError

log = logging.getLogger(__name__)


class ReceivedData:
    """The features that runs need on this host. They are received and never computed here.

    Args:
        blobs: the store that every host reaches.
        data_dir: folder of the prepared data, in which received features are kept.
        direct: direct connection to the orchestrator; None if there is none.
        allowed_packages: user packages from which kinds of data may be imported.
    """

    def __init__(
        self,
        blobs: BlobStore,
        data_dir: Path,
        *,
        direct: DirectClient | None = None,
        allowed_packages: tuple[str, ...] = (),
    ) -> None:
        self._blobs, self._data_dir = blobs, data_dir
        self._direct, self._allowed_packages = direct or DirectClient(""), allowed_packages

    def open(self, job: InnerLoopJob, refs: Sequence[DataRef]) -> Given:
        """Open the data that a job's plan describes.

        Raises:
            FeaturesMissingError: the features are not on this host and not in the stores, or they
                were damaged during the transfer.
            DataError: the features cannot be written to this host's data folder.
        """
        return give(
            [(ref, self._find(job, ref)) for ref in refs], allowed_packages=self._allowed_packages
        )

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
        return received

    def _fetch(self, key: str, n_bytes: int, route: DirectRoute | None) -> bytes | bytearray:
        if route is not None and (came := route.fetch(key, n_bytes)):
            return came[0]  # its digest is compared once the file is whole
        return self._blobs.get(key, n_bytes)
