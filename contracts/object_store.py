"""Blobs in the object stores that fsspec supports: S3, Google Cloud Storage, Azure, ..."""

import contextlib
import importlib
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from metafleet.errors import BlobMissingError, BrokerUnavailableError, ConfigError
from metafleet.passwords import redact_url

_SWEEP_EVERY_S = 600.0
_OLDEST_S = 24 * 3600.0


class ObjectBlobStore:
    """Blobs as objects under a URL like ``s3://bucket/folder``. Thread-safe.

    Object stores have no TTL. If a crash leaves objects behind, processes that put blobs later
    delete these objects as soon as they are a day old. A lifecycle rule of the bucket can delete
    the objects instead.

    Args:
        url: URL of the folder. fsspec and its packages read options such as keys and endpoints from
            the environment.
    """

    def __init__(self, url: str) -> None:
        self._shown = redact_url(url)
        try:
            core = importlib.import_module("fsspec.core")
        except ImportError as error:
            raise ConfigError(
                f"METAFLEET_BLOBS_URL={self._shown!r} needs fsspec; "
                "install it with `pip install 'metafleet[objects]'`"
            ) from error
        try:
            self._files, self._root = core.url_to_fs(url)
        except ImportError as error:
            raise ConfigError(
                f"METAFLEET_BLOBS_URL={self._shown!r} needs another package ({error}); "
                "install it together with `metafleet[objects]`"
            ) from error
        self._next_sweep_s = 0.0

    def put(self, key: str, data: bytes, *, ttl_s: float) -> None:
        """Store ``data`` as one object, which appears only when it is complete."""
        with self._object_errors():
            self._sweep()
            self._files.pipe_file(self._path(key), data)

    def get(self, key: str, n_bytes: int) -> bytes:
        """Fetch the object if it has the promised length."""
        with self._object_errors(), contextlib.suppress(FileNotFoundError):
            path = self._path(key)
            if self._files.size(path) == n_bytes:
                data = self._files.cat_file(path)
                if len(data) == n_bytes:
                    return bytes(data)
        raise BlobMissingError(
            f"blob {key} of {n_bytes} bytes is not in {self._shown}; it expired or was deleted"
        )

    def delete(self, key: str, n_bytes: int) -> None:
        """Remove the object."""
        with self._object_errors(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(key))

    @contextlib.contextmanager
    def _object_errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # every fsspec package raises its own errors
            raise BrokerUnavailableError(
                f"blobs at {self._shown} cannot be used ({type(error).__name__}: {error!s:.200}); "
                "is it there, and may this user read and write?"
            ) from error

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{quote(key, safe='')}"

    def _sweep(self) -> None:
        now_s = time.time()
        if now_s < self._next_sweep_s:
            return
        self._next_sweep_s = now_s + _SWEEP_EVERY_S
        with contextlib.suppress(FileNotFoundError, NotImplementedError):
            for entry in self._files.ls(self._root, detail=True):
                if now_s - _modified_s(entry, now_s) > _OLDEST_S:
                    with contextlib.suppress(FileNotFoundError):
                        self._files.rm_file(entry["name"])


def _modified_s(entry: dict[str, Any], now_s: float) -> float:
    """Return the time at which an object was written; ``now_s`` if its store does not report it."""
    for name in ("LastModified", "last_modified", "updated", "mtime", "created"):
        stamp: Any = entry.get(name)
        if isinstance(stamp, int | float):
            return float(stamp)
        if hasattr(stamp, "timestamp"):
            return float(stamp.timestamp())
    return now_s
