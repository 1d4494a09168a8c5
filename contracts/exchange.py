"""Tensors between orchestrator and workers: through the memory of a host, else the blob store."""

from collections.abc import Mapping

from torch import Tensor

from contracts.blobs import BlobStore
from contracts.codec import Buffer, check_digest, encode
from contracts.host_area import HostArea
from contracts.job import BlobRef
from metafleet.errors import BlobMissingError

SUM_TTL_S = 900.0


class Exchange:
    """Puts and gets blobs of one run.

    Args:
        blobs: the store that every host reaches.
        area: the run's files in the memory of the orchestrator's host; None elsewhere.
        to_store: put into the store all the same.
    """

    def __init__(self, blobs: BlobStore, area: HostArea | None, *, to_store: bool = False) -> None:
        self._blobs, self._area, self._to_store = blobs, area, to_store

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> BlobRef:
        """Store a sum where the orchestrator gets it with the fewest copies."""
        encoded = encode(tensors)
        n_bytes = encoded.n_bytes
        if self._area is not None and not self._to_store:
            seal = self._area.put(key, encoded.pieces, ttl_s=SUM_TTL_S)
            if seal is not None:
                return BlobRef(key=key, n_bytes=n_bytes, seal=seal)
        data = encoded.join()
        self._blobs.put(key, data, ttl_s=SUM_TTL_S)
        return BlobRef(key=key, n_bytes=n_bytes, digest=encoded.digest())

    def get(self, ref: BlobRef, *, what: str) -> Buffer:
        """Get the bytes that ``ref`` vouches for; ``what`` names them in messages.

        Raises:
            BlobMissingError: they are gone, or in the memory of another host.
            ContractError: they are damaged.
        """
        if ref.seal:
            if self._area is None:
                raise BlobMissingError(f"{what} is in the memory of another host")
            return self._area.map_sealed(ref.key, ref.n_bytes, ref.seal)
        data = self._blobs.get(ref.key, ref.n_bytes)
        check_digest(data, ref.digest, what=what)
        return data

    def delete(self, ref: BlobRef) -> None:
        """Remove a blob that nobody reads any more; quiet when it is gone."""
        if not ref.seal:
            self._blobs.delete(ref.key, ref.n_bytes)
        elif self._area is not None:
            self._area.set_free(ref.key)
