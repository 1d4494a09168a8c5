"""Download a file whose size and sha256 are known: resumable, and never half-written.

Bytes collect in ``NAME.part``; an interrupted download goes on from there. Only a file with the
promised size and sha256 gets the name ``NAME``.
"""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from metafleet.data.locking import exclusive
from metafleet.data.summary import Progress
from metafleet.errors import DataCorruptError, DataError

_CHUNK_BYTES = 1 << 16
_RETRIED_STATUSES = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to download, pinned.

    Attributes:
        name: what it is called here.
        url: where it is; http or https.
        n_bytes: its size.
        sha256: hex digest of its content.
    """

    name: str
    url: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a download keeps trying.

    Attributes:
        attempts: connections in a row that may bring nothing.
        timeout_s: seconds without a byte that end a connection.
        wait_s: pause after the first failure; doubled after each further one.
    """

    attempts: int = 4
    timeout_s: float = 30.0
    wait_s: float = 1.0


class _ConnectionFailedError(Exception):
    """The connection broke or brought nothing; another may do better."""


def download(
    remote: RemoteFile,
    folder: Path,
    *,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Path:
    """Bring ``remote`` into ``folder`` unless it is there; safe in concurrent processes.

    Raises:
        DataCorruptError: what came has another size or sha256; it was deleted.
        DataError: the server cannot be reached, refuses, or the disk cannot be written.
    """
    target = folder / remote.name
    try:
        with exclusive(folder / f".{remote.name}.lock"):
            if not is_intact(target, remote):
                _fetch(remote, target, progress, patience or Patience())
    except OSError as error:
        raise DataError(
            f"cannot write {target} ({error.strerror or error}); what was downloaded is kept, "
            "free space there or set METAFLEET_DATA_DIR to another folder and run it again"
        ) from error
    return target


def is_intact(path: Path, remote: RemoteFile) -> bool:
    """Tell whether ``path`` has the promised size and sha256."""
    try:
        return path.stat().st_size == remote.n_bytes and hash_file(path) == remote.sha256
    except FileNotFoundError:
        return False


def hash_file(path: Path) -> str:
    """Hash a file's content to a sha256 hex digest."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _fetch(remote: RemoteFile, target: Path, progress: Progress | None, patience: Patience) -> None:
    part = target.with_name(f"{remote.name}.part")
    was_resumed = _size(part) > 0
    _complete(remote, part, progress, patience)
    if hash_file(part) != remote.sha256 and was_resumed:
        part.unlink()  # the old beginning may have been of another file
        _complete(remote, part, progress, patience)
    found = hash_file(part)
    if found != remote.sha256:
        part.unlink()
        raise DataCorruptError(
            f"{remote.url} has sha256 {found[:16]}..., expected {remote.sha256[:16]}...; "
            f"it was deleted; try again later, or put the right file at {target}"
        )
    with part.open("rb") as handle:
        os.fsync(handle.fileno())
    part.replace(target)


def _complete(
    remote: RemoteFile, part: Path, progress: Progress | None, patience: Patience
) -> None:
    failures = 0
    while True:
        before = _size(part)
        if before > remote.n_bytes:
            part.unlink()
            before = 0
        if before == remote.n_bytes:
            return
        try:
            _continue(remote, part, progress, patience.timeout_s)
            why = "the connection ended early"
        except _ConnectionFailedError as error:
            why = str(error)
        after = _size(part)
        if after == remote.n_bytes:
            return
        failures = 0 if after > before else failures + 1
        if failures >= patience.attempts:
            raise DataError(
                f"cannot download {remote.url}: {why}; {after} of {remote.n_bytes} bytes are "
                f"kept, run it again to go on, or put the file at {part.with_suffix('')}"
            )
        time.sleep(patience.wait_s * 2 ** max(failures - 1, 0))


def _continue(remote: RemoteFile, part: Path, progress: Progress | None, timeout_s: float) -> None:
    """Ask for what is missing and append it until the connection ends."""
    offset = _size(part)
    headers = {"User-Agent": "metafleet", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            starts_over = response.status != http.HTTPStatus.PARTIAL_CONTENT
            offset = 0 if starts_over else offset
            _check_length(remote, response, offset)
            with part.open("wb" if starts_over else "ab") as handle:
                _copy(response, handle, remote, offset, progress)
    except urllib.error.HTTPError as error:
        _refused(remote, part, error)
    except urllib.error.URLError as error:
        raise _ConnectionFailedError(str(error.reason)) from error


def _check_length(remote: RemoteFile, response: http.client.HTTPResponse, offset: int) -> None:
    announced = response.headers.get("Content-Length")
    if announced is not None and announced.isdigit() and offset + int(announced) != remote.n_bytes:
        raise DataCorruptError(
            f"{remote.url} has {offset + int(announced)} bytes, expected {remote.n_bytes}; "
            "it is not the pinned file"
        )
    span = response.headers.get("Content-Range")
    if offset and span and not span.startswith(f"bytes {offset}-"):
        raise DataError(f"{remote.url} answered with range {span!r}, asked for {offset}-")


def _copy(
    response: http.client.HTTPResponse,
    handle: IO[bytes],
    remote: RemoteFile,
    done: int,
    progress: Progress | None,
) -> None:
    while done < remote.n_bytes:
        try:
            chunk = response.read1(min(_CHUNK_BYTES, remote.n_bytes - done))
        except (OSError, http.client.HTTPException) as error:
            raise _ConnectionFailedError(str(error) or type(error).__name__) from error
        if not chunk:
            return
        handle.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(f"downloading {remote.name}", done, remote.n_bytes)


def _refused(remote: RemoteFile, part: Path, error: urllib.error.HTTPError) -> None:
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.unlink(missing_ok=True)
        raise _ConnectionFailedError("the server has less than was downloaded") from error
    why = f"HTTP {error.code} {error.reason}"
    if error.code >= 500 or error.code in _RETRIED_STATUSES:
        raise _ConnectionFailedError(why) from error
    raise DataError(
        f"cannot download {remote.url}: {why}; get the file elsewhere and put it at "
        f"{part.with_suffix('')}"
    ) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
