"""Download an archive that a server packs anew for each request: its bytes are promised by nobody.

So there is nothing to resume and no checksum of the whole; what is inside is checked instead,
before the file gets its name.
"""

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metafleet.data.locking import exclusive
from metafleet.data.prepared.download import Patience
from metafleet.data.summary import Progress, no_progress
from metafleet.errors import DataError

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class UnpinnedFile:
    """A file to download.

    Attributes:
        name: what it is called here.
        url: where it is; http or https.
        max_bytes: it is refused when it has more.
        check: given the file, raises DataCorruptError unless its content is as published.
    """

    name: str
    url: str
    max_bytes: int
    check: Callable[[Path], None]


def download_unpinned(
    remote: UnpinnedFile,
    folder: Path,
    *,
    progress: Progress = no_progress,
    patience: Patience | None = None,
) -> Path:
    """Bring ``remote`` into ``folder`` unless it is there; safe in concurrent processes.

    Raises:
        DataCorruptError: what came is something else; it was deleted.
        DataError: the server cannot be reached, refuses, or the disk cannot be written.
    """
    target, part = folder / remote.name, folder / f"{remote.name}.part"
    try:
        with exclusive(folder / f".{remote.name}.lock"):
            if not target.is_file():
                try:
                    _fetch(remote, part, progress, patience or Patience())
                    remote.check(part)
                    part.replace(target)
                finally:
                    part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write {target} ({error.strerror or error}); "
            "free space there or set METAFLEET_DATA_DIR to another folder"
        ) from error
    return target


def _fetch(remote: UnpinnedFile, part: Path, progress: Progress, patience: Patience) -> None:
    why = ""
    for attempt in range(patience.attempts):
        if attempt:
            time.sleep(patience.wait_s * 2 ** (attempt - 1))
        try:
            return _copy(remote, part, progress, patience.timeout_s)
        except urllib.error.HTTPError as error:
            why = f"HTTP {error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
            why = str(getattr(error, "reason", error)) or type(error).__name__
    raise DataError(
        f"cannot download {remote.url}: {why}; run it again, or put the file at "
        f"{part.with_suffix('')}"
    )


def _copy(remote: UnpinnedFile, part: Path, progress: Progress, timeout_s: float) -> None:
    request = urllib.request.Request(remote.url, headers={"User-Agent": "metafleet"})
    with (
        urllib.request.urlopen(request, timeout=timeout_s) as response,
        part.open("wb") as handle,
    ):
        announced = response.headers.get("Content-Length", "")
        total = int(announced) if announced.isdigit() else 0
        done = 0
        while chunk := response.read(_CHUNK_BYTES):
            handle.write(chunk)
            done += len(chunk)
            progress(f"downloading {remote.name}", done, total)
            if done > remote.max_bytes:
                raise DataError(f"{remote.url} has more than {remote.max_bytes} bytes; refused")
        if done < total:
            raise http.client.IncompleteRead(b"", total - done)
        handle.flush()
        os.fsync(handle.fileno())
