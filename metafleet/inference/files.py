"""Checking and writing of output files that a user names, with one-line errors."""

from pathlib import Path

from metafleet.errors import ModelError
from metafleet.files import write_whole


def check_new_file(path: Path, *, force: bool) -> None:
    """Check that ``path`` can be written. Call this function before the content is computed.

    Raises:
        ModelError: the file exists and must not be replaced, or its folder does not exist.
    """
    if path.is_dir():
        raise ModelError(f"{path} is a folder; choose another name")
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is no plain file, and is never replaced; choose another name")
    if path.exists() and not force:
        raise ModelError(f"{path} exists; choose another name, or give --force to replace it")
    if not path.absolute().parent.is_dir():
        raise ModelError(f"{path} cannot be written: {path.parent} is no folder; make it first")


def write_new_file(path: Path, content: bytes) -> None:
    """Write the file atomically.

    Raises:
        ModelError: the disk is full or the file cannot be written.
    """
    try:
        write_whole(path, content, mode=None)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be written ({error.strerror or error}); free space, or choose another "
            "place"
        ) from error
