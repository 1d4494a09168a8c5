"""Download files. Pinned downloads can be resumed, and a file appears only when it is complete.

Bytes are written to ``NAME.part``. The file is renamed to ``NAME`` after its content has passed the
check.
"""

import contextlib
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar, NoReturn

from metafleet.data.summary import Progress, no_progress
from metafleet.errors import DataCorruptError, DataError
from metafleet.files import sync
from metafleet.locking import exclusive

_CHUNK_BYTES = 1 << 16
_RETRIED_STATUSES = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A pinned file to download.

    Attributes:
        name: local name of the file.
        url: http or https address of the file.
        n_bytes: size of the file.
        sha256: hex digest of the file's content.
    """

    name: str
    url: str
    n_bytes: int
    sha256: str

    @property
    def max_bytes(self) -> int:
        """Maximum number of bytes to read."""
        return self.n_bytes

    def is_at(self, path: Path) -> bool:
        """Return whether ``path`` has the pinned size and sha256."""
        try:
            return path.stat().st_size == self.n_bytes and hash_file(path) == self.sha256
        except FileNotFoundError:
            return False

    def check(self, part: Path) -> None:
        """Check that a download has the pinned sha256.

        Raises:
            DataCorruptError: the sha256 differs.
        """
        found = hash_file(part)
        if found != self.sha256:
            raise DataCorruptError(
                f"{self.url} has sha256 {found[:16]}..., expected {self.sha256[:16]}...; it was "
                f"deleted; try again later, or put the right file at {part.with_suffix('')}"
            )


@dataclass(frozen=True, slots=True)
class UnpinnedFile:
    """A file that the server repacks for each download.

    The bytes of the file differ from one request to the next, so a download cannot be resumed and
    the file has no fixed checksum. The contents of the file are checked instead.

    Attributes:
        name: local name of the file.
        url: http or https address of the file.
        max_bytes: maximum size; a larger file is refused.
        check: a function that takes the file and raises DataCorruptError unless its contents are as
            published.
    """

    name: str
    url: str
    max_bytes: int
    check: Callable[[Path], None]
    n_bytes: ClassVar[None] = None

    def is_at(self, path: Path) -> bool:
        """Return whether ``path`` exists; it was checked before it got its name."""
        return path.is_file()


AnyFile = RemoteFile | UnpinnedFile


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a download keeps trying.

    Attributes:
        attempts: number of consecutive connections without usable bytes before giving up.
        timeout_s: seconds without a byte after which a connection is closed.
        wait_s: pause after the first failure; doubled after each further failure.
    """

    attempts: int = 4
    timeout_s: float = 30.0
    wait_s: float = 1.0


class _ConnectionFailedError(Exception):
    """The connection broke or delivered nothing; a retry may succeed."""


def download(
    remote: AnyFile,
    folder: Path,
    *,
    progress: Progress = no_progress,
    retry: RetryPolicy | None = None,
) -> Path:
    """Download ``remote`` to ``folder`` unless it exists; safe in concurrent processes.

    Raises:
        DataCorruptError: the download is not the expected file. The downloaded file was deleted.
        DataError: the server cannot be reached or refuses, or the disk cannot be written.
    """
    target = folder / remote.name
    try:
        with exclusive(folder / f".{remote.name}.lock"):
            if not remote.is_at(target):
                _fetch(remote, target, progress, retry or RetryPolicy())
    except OSError as error:
        kept = "" if remote.n_bytes is None else "what was downloaded is kept, "
        raise DataError(
            f"cannot write {target} ({error.strerror or error}); {kept}"
            "free space there or set METAFLEET_DATA_DIR to another folder and run it again"
        ) from error
    return target


def hash_file(path: Path) -> str:
    """Return the sha256 hex digest of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _fetch(remote: AnyFile, target: Path, progress: Progress, retry: RetryPolicy) -> None:
    part = target.with_name(f"{remote.name}.part")
    with contextlib.ExitStack() as at_end:
        if remote.n_bytes is None:
            at_end.callback(part.unlink, missing_ok=True)
        was_resumed = True
        while was_resumed:
            was_resumed = _n_kept(remote, part) > 0
            _complete(remote, part, progress, retry)
            try:
                remote.check(part)
                break
            except DataCorruptError:
                part.unlink()
                if not was_resumed:  # a resumed part may have begun with another file's bytes
                    raise
        sync(part)
        part.replace(target)


def _n_kept(remote: AnyFile, part: Path) -> int:
    """Return how many bytes of an earlier download can be resumed; delete an unusable part."""
    try:
        size = part.stat().st_size
    except FileNotFoundError:
        return 0
    if remote.n_bytes is None or size > remote.n_bytes:
        part.unlink()
        return 0
    return size


def _complete(remote: AnyFile, part: Path, progress: Progress, retry: RetryPolicy) -> None:
    failures = 0
    kept = _n_kept(remote, part)
    while kept != remote.n_bytes:
        try:
            return _continue(remote, part, kept, progress, retry.timeout_s)
        except _ConnectionFailedError as error:
            why = str(error)
        before, kept = kept, _n_kept(remote, part)
        failures = 0 if kept > before else failures + 1
        if failures >= retry.attempts:
            again = "run it again"
            if remote.n_bytes is not None:
                again = f"{kept} of {remote.n_bytes} bytes are kept, run it again to go on"
            raise DataError(
                f"cannot download {remote.url}: {why}; {again}, or put the file at "
                f"{part.with_suffix('')}"
            )
        time.sleep(retry.wait_s * 2 ** max(failures - 1, 0))


def _continue(
    remote: AnyFile, part: Path, offset: int, progress: Progress, timeout_s: float
) -> None:
    """Request the missing bytes and append them."""
    headers = {"User-Agent": "metafleet", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        _refuse(remote, part, error)
    except (OSError, http.client.HTTPException) as error:
        why = str(getattr(error, "reason", error)) or type(error).__name__
        raise _ConnectionFailedError(why) from error
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            offset = 0
        total = _check_length(remote, response, offset)
        with part.open("ab" if offset else "wb") as handle:
            _copy(response, handle, remote, (offset, total), progress)


def _check_length(remote: AnyFile, response: http.client.HTTPResponse, offset: int) -> int:
    """Return the size of the whole file; 0 if it is unknown."""
    announced = response.headers.get("Content-Length", "")
    total = offset + int(announced) if announced.isdigit() else remote.n_bytes or 0
    if remote.n_bytes is not None and total != remote.n_bytes:
        raise DataCorruptError(
            f"{remote.url} has {total} bytes, expected {remote.n_bytes}; it is not the pinned file"
        )
    span = response.headers.get("Content-Range")
    if offset and span and not span.startswith(f"bytes {offset}-"):
        raise DataError(f"{remote.url} answered with range {span!r}, asked for {offset}-")
    return total


def _copy(
    response: http.client.HTTPResponse,
    handle: IO[bytes],
    remote: AnyFile,
    span: tuple[int, int],
    progress: Progress,
) -> None:
    done, total = span
    end = remote.max_bytes + 1 if remote.n_bytes is None else remote.n_bytes
    while done != remote.n_bytes:
        if max(done, total) > remote.max_bytes:
            raise DataError(f"{remote.url} has more than {remote.max_bytes} bytes; refused")
        try:
            chunk = response.read1(min(_CHUNK_BYTES, end - done))
        except (OSError, http.client.HTTPException) as error:
            raise _ConnectionFailedError(str(error) or type(error).__name__) from error
        if not chunk:
            break
        handle.write(chunk)
        done += len(chunk)
        progress(f"downloading {remote.name}", done, total)
    if done < total:
        raise _ConnectionFailedError("the connection ended early")


def _refuse(remote: AnyFile, part: Path, error: urllib.error.HTTPError) -> NoReturn:
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
