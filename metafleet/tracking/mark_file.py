"""The mark of a run in a file, next to the files of a sink."""

import json
from pathlib import Path
from typing import Any

from metafleet.errors import ConfigError
from metafleet.files import drafting
from metafleet.tracking.records import Mark


def to_document(uid: str, mark: Mark) -> dict[str, Any]:
    """Return the JSON of a mark: the run's uid, the last step, and the keys of other rows."""
    return {"uid": uid, "step": mark.step, "keys": sorted(mark.keys)}


def from_document(document: Any, uid: str, *, where: str, remedy: str) -> Mark:
    """Return the mark in a document that ``to_document`` made.

    Args:
        document: the document.
        uid: uid of the run that the mark should belong to.
        where: the place of the document, for error messages.
        remedy: what to do if the document is damaged, for error messages.

    Raises:
        ConfigError: the document is damaged, or it belongs to another run.
    """
    try:
        owner = str(document["uid"])
        mark = Mark(int(document["step"]), frozenset(map(str, document["keys"])))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"the mark of run {uid} in {where} is damaged; {remedy}") from error
    if owner != uid:
        raise ConfigError(f"{where} already has run {owner}; expected one run in it: open another")
    return mark


def read_mark(path: Path, uid: str, *, remedy: str) -> Mark | None:
    """Return the mark in a file; None if the file does not exist.

    Raises:
        ConfigError: as for ``from_document``.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        document = None
    return from_document(document, uid, where=str(path), remedy=remedy)


def write_mark(path: Path, uid: str, mark: Mark) -> None:
    """Replace the mark in a file; an interrupted write leaves the old file.

    Raises:
        OSError: the file cannot be written.
    """
    with drafting(path, survives=False) as draft:
        draft.write_text(json.dumps(to_document(uid, mark)), encoding="utf-8")
