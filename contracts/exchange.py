"""Exchanges tensors between orchestrator and workers: in memory, directly or by the blob store."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from metafleet.contracts.blobs import BlobStore
from metafleet.contracts.codec import Buffer, Encoded, check_digest, compare_digests, encode
from metafleet.contracts.host_area import HostArea
from metafleet.contracts.job import BlobRef
from metafleet.errors import BlobMissingError

SUM_TTL_S = 900.0


class Direct(Protocol):
    """A connection to the other side that needs no store."""

    def fetch(self, key: str, n_bytes: int) -> tuple[bytearray, str] | None:
        """Get a blob and its digest; None if it cannot be fetched directly."""
        ...

    def give(self, key: str, encoded: Encoded) -> str | None:
        """Send a blob. Return its digest; None if it did not arrive."""
        ...

    def forget(self, key: str) -> bool:
        """Release a blob. Return False if it was not transferred directly."""
        ...


class Exchange:
    """Puts and gets blobs of one run.

    Args:
        blobs: the store that every host reaches.
        area: the run's files in the memory of the orchestrator's host; None on other hosts.
        to_store: whether to put blobs into the store even if there is a faster way.
        direct: the connection between the orchestrator and a worker on another host; None if there
            is no such connection.
    """

    def __init__(
        self,
        blobs: BlobStore,
        area: HostArea | None,
        *,
        to_store: bool = False,
        direct: Direct | None = None,
    ) -> None:
        self._blobs, self._area, self._to_store = blobs, area, to_store
        self._direct = direct

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> BlobRef:
        """Store a sum where the orchestrator can get it with the fewest copies."""
        encoded = encode(tensors)
        n_bytes = encoded.n_bytes
        if self._area is not None and not self._to_store:
            seal = self._area.put(key, encoded.pieces, ttl_s=SUM_TTL_S)
            if seal is not None:
                return BlobRef(key=key, n_bytes=n_bytes, seal=seal)
        if self._direct is not None and not self._to_store:
            digest = self._direct.give(key, encoded)
            if digest is not None:
                return BlobRef(key=key, n_bytes=n_bytes, digest=digest)
        data = encoded.join()
        self._blobs.put(key, data, ttl_s=SUM_TTL_S)
        return BlobRef(key=key, n_bytes=n_bytes, digest=encoded.digest())

    def get(self, ref: BlobRef, *, what: str) -> Buffer:
        """Get the bytes that ``ref`` describes; ``what`` names the bytes in messages.

        Raises:
            BlobMissingError: the bytes are no longer there, or are in the memory of another host.
            ContractError: the bytes are damaged.
        """
        if ref.seal:
            if self._area is None:
                raise BlobMissingError(f"{what} is in the memory of another host")
            return self._area.map_sealed(ref.key, ref.n_bytes, ref.seal)
        if self._direct is not None and (came := self._direct.fetch(ref.key, ref.n_bytes)):
            compare_digests(came[1], ref.digest, what=what)
            return came[0]
        data = self._blobs.get(ref.key, ref.n_bytes)
        check_digest(data, ref.digest, what=what)
        return data

    def delete(self, ref: BlobRef) -> None:
        """Remove a blob that has no more readers. A missing blob is no error."""
        if not ref.seal:
            if self._direct is None or not self._direct.forget(ref.key):
                self._blobs.delete(ref.key, ref.n_bytes)
        elif self._area is not None:
            self._area.set_free(ref.key)
