"""Files that appear whole or not at all."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PART: Final = ".part-"
"""How the names of files begin that are not whole yet."""


def write_whole(path: Path, data: bytes, *, mode: int | None = 0o600) -> None:
    """Write a file, or replace it, so that a crash or a power cut leaves the old or the new one.

    Args:
        path: the file.
        data: all of its content.
        mode: as of ``drafting``.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    with drafting(path, mode=mode) as draft:
        draft.write_bytes(data)


@contextlib.contextmanager
def drafting(path: Path, *, mode: int | None = 0o600, survives: bool = True) -> Iterator[Path]:
    """Give an empty file in the same folder, which takes the name of ``path`` after the block.

    If the block raises, the draft is deleted and what was there stays.

    Args:
        path: the file.
        mode: permissions, whatever the umask is; None for those that it leaves.
        survives: whether it must be on the disk when this returns; takes some milliseconds.

    Raises:
        OSError: it cannot be written; what was there stays.
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
        with contextlib.suppress(PermissionError):  # a folder that may be written to and not read
            sync(path.absolute().parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power cut.

    Raises:
        OSError: the disk refuses.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing for folders
            raise
    finally:
        os.close(handle)
