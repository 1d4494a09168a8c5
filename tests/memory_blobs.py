"""A blob store in memory that counts its reads."""

from metafleet.errors import BlobMissingError


class MemoryBlobs:
    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.reads: list[str] = []

    def put(self, key: str, data: bytes, *, ttl_s: float) -> None:
        self.blobs[key] = data

    def get(self, key: str, n_bytes: int) -> bytes:
        self.reads.append(key)
        data = self.blobs.get(key)
        if data is None or len(data) != n_bytes:
            raise BlobMissingError(f"blob {key} of {n_bytes} bytes is not in the store")
        return data

    def delete(self, key: str, n_bytes: int) -> None:
        self.blobs.pop(key, None)
