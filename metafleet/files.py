"""Atomic writing of files."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PART: Final = ".part-"
"""Prefix of the names of incomplete files."""


def write_whole(path: Path, data: bytes, *, mode: int | None = 0o600) -> None:
    """Write or replace a file so that a crash or power cut leaves the complete old or new file.

    Args:
        path: the file.
        data: its complete content.
        mode: as in ``drafting``.

    Raises:
        OSError: the file cannot be written. An existing file is kept.
    """
    with drafting(path, mode=mode) as draft:
        draft.write_bytes(data)


@contextlib.contextmanager
def drafting(path: Path, *, mode: int | None = 0o600, survives: bool = True) -> Iterator[Path]:
    """Yield an empty file in the folder of ``path``, and rename it to ``path`` after the block.

    If the block raises an error, the yielded file is deleted and an existing file stays.

    Args:
        path: the file.
        mode: permissions, regardless of the umask; None for the umask's default.
        survives: whether to sync the file to disk, which takes some milliseconds. A synced file
            survives a power cut.

    Raises:
        OSError: the file cannot be written. An existing file is kept.
    """
    draft = path.absolute().with_name(f"{PART}{secrets.token_hex(8)}")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600))
    try:
        yield draft
        if mode not in (None, 0o600):
            draft.chmod(mode)
        if survives:
            sync(draft)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if survives:
        with contextlib.suppress(PermissionError):  # a folder that is writable but not readable
            sync(path.absolute().parent)


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, would survive a power cut.

    Raises:
        OSError: the file cannot be synced.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync folders
            raise
    finally:
        os.close(handle)
