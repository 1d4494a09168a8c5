"""Find models of the Hugging Face hub on this machine, or download them if that is allowed.

The preparation of data may download weights, but runs and workers must not. Each process has a flag
that permits or forbids downloads.
"""

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from metafleet.errors import ConfigError, DataMissingError

_HUB: Final = re.compile(r"(?P<model>[\w.-]+/[\w.-]+)(?:@(?P<commit>.*))?")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_FILES: Final = ["*.json", "*.txt", "*.model", "*.safetensors"]
"""Patterns of files to download, which include no pickles and no code."""
_INSTALL: Final = "pip install 'metafleet[hf]'"

_is_allowed = False


def may_fetch() -> bool:
    """Return whether this process may download weights."""
    return _is_allowed


def allow_fetching(is_allowed: bool) -> None:
    """Set whether this process may download weights."""
    global _is_allowed  # noqa: PLW0603 - of the process, as all its threads encode
    _is_allowed = is_allowed


@contextlib.contextmanager
def fetching(is_allowed: bool) -> Iterator[None]:
    """Set whether this process may download weights inside the block."""
    before = _is_allowed
    allow_fetching(is_allowed)
    try:
        yield
    finally:
        allow_fetching(before)


def path_of(encoder: str, place: str) -> Path:
    """Return the path in an encoder's name, whether or not the path exists.

    Raises:
        ConfigError: the text cannot be a path.
    """
    try:
        path = Path(place).expanduser()
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return path
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, an unknown user
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"encoder {encoder!r:.80}: {place!r:.80} cannot be a path ({reason}); correct it"
        ) from error
    return path


def find_folder(encoder: str, place: str) -> Path:
    """Return the folder of a model.

    Args:
        encoder: full name of the encoder, for messages.
        place: a path, or "owner/name@COMMIT" for a model of the hub.

    Raises:
        ConfigError: ``place`` names a model of the hub without its commit, or cannot be a path.
        DataMissingError: the folder does not exist, or the model is not on this machine and
            cannot be downloaded.
    """
    path = path_of(encoder, place)
    if path.is_dir():
        return path
    found = _HUB.fullmatch(place)
    if found is None or path.is_file() or place.startswith(("./", "../", "~")):
        raise DataMissingError(
            f"encoder {encoder!r}: there is no folder {place!r}; check the path, or give the name "
            "of a model of the hub as owner/name@COMMIT"
        )
    if not _COMMIT.fullmatch(found["commit"] or ""):
        raise ConfigError(
            f"encoder {encoder!r} is no folder here, and a name of the hub needs a commit of 40 "
            f"digits, because branches change; expected {found['model']}@COMMIT as its page lists "
            "under files, history"
        )
    return _of_hub(encoder, found["model"], found["commit"])


def _of_hub(encoder: str, model: str, commit: str) -> Path:
    from metafleet.encoders.runtime import encoder_library  # noqa: PLC0415 - imports torch

    hub = encoder_library("huggingface_hub", encoder=encoder, install=_INSTALL)
    kept = _kept(hub, model, commit)
    if kept is not None:
        return kept
    if not may_fetch():
        raise DataMissingError(
            f"encoder {encoder!r} is not on this machine, and may not be downloaded here; prepare "
            "the data first (`metafleet data prepare` or `data import`) without "
            "METAFLEET_FETCH_WEIGHTS=never, or set METAFLEET_FETCH_WEIGHTS=always (workers ignore "
            "it)"
        )
    hub.utils.logging.set_verbosity(logging.CRITICAL)  # the error below says what went wrong
    try:
        return Path(hub.snapshot_download(model, revision=commit, allow_patterns=_FILES))
    except Exception as error:  # of the network, the hub or the disk
        reason = next(iter(str(error).strip().splitlines()), "")[:160]
        raise DataMissingError(
            f"encoder {encoder!r} cannot be downloaded ({type(error).__name__}: {reason}); check "
            "the name and the network, or copy the model's folder here and give its path"
        ) from error


def _kept(hub: Any, model: str, commit: str) -> Path | None:
    """Return the folder of a model that was downloaded; None if its weights are not there."""
    try:
        folder = Path(
            hub.snapshot_download(
                model, revision=commit, local_files_only=True, allow_patterns=_FILES
            )
        )
    except Exception:  # not in the cache
        return None
    return folder if any(folder.rglob("*.safetensors")) else None
