"""Blob stores for tensors, by key: Redis, a shared directory or an object store."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote

from redis.exceptions import OutOfMemoryError

from metafleet.contracts.bulk_read import read_values
from metafleet.contracts.connections import Client, connect, redis_errors
from metafleet.contracts.keys import KEY_PREFIX
from metafleet.contracts.object_store import ObjectBlobStore
from metafleet.errors import (
    BlobMissingError,
    BlobStoreFullError,
    BrokerUnavailableError,
    ConfigError,
)
from metafleet.files import PART, drafting
from metafleet.passwords import redact_url

OBJECT_SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "oci", "hdfs", "memory")
"""URL schemes that go through fsspec. "memory" is private to one process, for tests."""

CHUNK_BYTES = 32 * 2**20
"""Largest single Redis value. Larger ones hurt client buffers and replication."""


_OWN_NAMES = (quote(KEY_PREFIX, safe=""), PART)
"""Prefixes of the file names in a directory store."""


class BlobStore(Protocol):
    """Stores immutable bytes by key until they expire."""

    def put(self, key: str, data: bytes, *, ttl_s: float) -> None:
        """Store ``data`` atomically: readers see all of it or nothing."""
        ...

    def get(self, key: str, n_bytes: int) -> bytes | bytearray:
        """Fetch exactly ``n_bytes`` bytes.

        Raises:
            BlobMissingError: the blob has expired, was deleted or is not yet stored, or it has
                another length.
        """
        ...

    def delete(self, key: str, n_bytes: int) -> None:
        """Remove a blob. A missing blob is no error."""
        ...


def open_blob_store(url: str) -> BlobStore:
    """Return the store at a URL: redis://, file:///shared/directory or a scheme of fsspec.

    Raises:
        ConfigError: the URL is not supported, or needs a package that is not installed.
    """
    scheme = url.partition("://")[0]
    if scheme in ("redis", "rediss", "unix"):
        return RedisBlobStore(url)
    if scheme == "file":
        return DirectoryBlobStore(_directory_of(url))
    if scheme in OBJECT_SCHEMES:
        return ObjectBlobStore(url)
    raise ConfigError(
        f"METAFLEET_BLOBS_URL={redact_url(url)!r}; expected redis://, rediss:// or file:///path, "
        f"or one of {', '.join(f'{name}://' for name in OBJECT_SCHEMES)} by way of fsspec"
    )


def _directory_of(url: str) -> Path:
    path = unquote(url.removeprefix("file://"))
    if not path.startswith("/"):  # file://name/x would be the folder /x of a host called "name"
        raise ConfigError(f"METAFLEET_BLOBS_URL={url!r} is not absolute; expected file:///path")
    return Path(path)


def _missing(key: str, n_bytes: int) -> BlobMissingError:
    return BlobMissingError(
        f"blob {key} of {n_bytes} bytes is not in the store; it expired or was deleted"
    )


class RedisBlobStore:
    """Blobs in Redis, in chunks of at most 32 MiB. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Client = connect(url)

    def put(self, key: str, data: bytes, *, ttl_s: float) -> None:
        """Store ``data``. The last chunk comes last, so a partial blob never looks complete."""
        view = memoryview(data)
        with redis_errors(self._url):
            for index, chunk_key in enumerate(self._chunk_keys(key, len(data))):
                chunk = view[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
                try:
                    self._client.set(chunk_key, chunk, px=int(ttl_s * 1000))
                except OutOfMemoryError as error:
                    raise BlobStoreFullError(
                        f"Redis at {redact_url(self._url)} is out of memory: {key} of {len(data)} "
                        "bytes does not fit; raise its maxmemory, or make fewer and larger jobs"
                    ) from error

    def get(self, key: str, n_bytes: int) -> bytearray:
        """Fetch all chunks in one round trip and check the length of each."""
        names = self._chunk_keys(key, n_bytes)
        lengths = {
            name: min(CHUNK_BYTES, n_bytes - index * CHUNK_BYTES)
            for index, name in enumerate(names)
        }
        with redis_errors(self._url):
            found = read_values(self._client, lengths)
            if found is None:
                self._client.type(names[0])  # raises the server's error, if it had one
                raise _missing(key, n_bytes)
        return found

    def delete(self, key: str, n_bytes: int) -> None:
        """Remove all chunks. Redis frees the memory outside its main thread."""
        with redis_errors(self._url):
            self._client.unlink(*self._chunk_keys(key, n_bytes))

    @staticmethod
    def _chunk_keys(key: str, n_bytes: int) -> list[str]:
        n_chunks = max(1, -(-n_bytes // CHUNK_BYTES))
        return [key] if n_chunks == 1 else [f"{key}:{index}" for index in range(n_chunks)]


class DirectoryBlobStore:
    """Blobs as files in a directory that all hosts share. Safe for many processes.

    Workers and orchestrator may run as different users. Each file therefore gets the permissions of
    the folder, and the owner of the folder decides who may read the files. Readers compare the
    digest of the bytes with the digest in a signed message.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._next_sweep_s = 0.0

    def put(self, key: str, data: bytes, *, ttl_s: float) -> None:
        """Write a temporary file, set its modification time to its expiry, and rename it."""
        with self._directory_errors():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._sweep()
            mode = self._directory.stat().st_mode & 0o666
            with drafting(self._path(key), mode=mode, survives=False) as draft:
                draft.write_bytes(data)
                expiry_s = time.time() + ttl_s
                os.utime(draft, (expiry_s, expiry_s))

    def get(self, key: str, n_bytes: int) -> bytes:
        """Read the file if it has the promised length."""
        path = self._path(key)
        with self._directory_errors(), contextlib.suppress(FileNotFoundError):
            if path.stat().st_size == n_bytes:
                return path.read_bytes()
        raise _missing(key, n_bytes)

    def delete(self, key: str, n_bytes: int) -> None:
        """Remove the file."""
        with self._directory_errors():
            self._path(key).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _directory_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BrokerUnavailableError(
                f"blob directory {self._directory} cannot be used ({error.strerror}); "
                "is it mounted, writable and not full?"
            ) from error

    def _path(self, key: str) -> Path:
        return self._directory / quote(key, safe="")

    def _sweep(self) -> None:
        """Once a minute, remove expired blobs. The folder may hold files that are not ours."""
        now_s = time.time()
        if now_s < self._next_sweep_s:
            return
        self._next_sweep_s = now_s + 60
        for path in self._directory.iterdir():
            if not path.name.startswith(_OWN_NAMES):
                continue
            # gone, or another user's in a folder with the sticky bit: their processes remove it
            with contextlib.suppress(FileNotFoundError, PermissionError):
                if path.is_file() and path.stat().st_mtime < now_s - 60:
                    path.unlink()
