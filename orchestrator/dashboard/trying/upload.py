"""Reads what a browser sends: one line of JSON, and then the bytes of all files, in its order."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from metafleet.errors import ConfigError

MOST_CLASSES: Final = 10
MOST_FILES: Final = 100
MOST_FILE_BYTES: Final = 8 << 20
MOST_BYTES: Final = 32 << 20
_MOST_LINE_BYTES: Final = 1 << 17
_MOST_NAME: Final = 60


@dataclass(frozen=True, slots=True)
class GivenFile:
    """One file.

    Attributes:
        place: its path in a folder of examples; names of files have only plain characters.
        name: the name that the browser gave, for people.
        content: its bytes.
    """

    place: str
    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Upload:
    """What to compute.

    Attributes:
        base: key of the model to adapt.
        files: the examples, as "support/CLASS/FILE", and the queries, as "query/FILE".
    """

    base: str
    files: tuple[GivenFile, ...]

    @property
    def queries(self) -> dict[str, int]:
        """Place of each query within the folder of queries -> its number, from 0."""
        found = [one.place for one in self.files if one.place.startswith("query/")]
        return {place.removeprefix("query/"): number for number, place in enumerate(found)}

    def write(self, folder: Path) -> None:
        """Write the files below an empty folder."""
        for one in self.files:
            path = folder / one.place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(one.content)


def check_length(content_length: str) -> None:
    """Refuse a body by its announced length, before any of it is read.

    Raises:
        ConfigError: the length is missing or too large.
    """
    if not (content_length.isascii() and content_length.isdigit()) or len(content_length) > 12:
        raise ConfigError("the length of the files is unknown; expected a Content-Length")
    if int(content_length) > MOST_BYTES:
        raise ConfigError(
            f"the files have {int(content_length) / 2**20:.1f} MiB together; expected at most "
            f"{MOST_BYTES >> 20} MiB"
        )


async def read_upload(body: AsyncIterator[bytes]) -> Upload:
    """Read a body, and check names, numbers and sizes.

    Raises:
        ConfigError: the body is too long, or something in it is not as expected.
    """
    found = bytearray()
    async for part in body:
        found += part
        if len(found) > MOST_BYTES:
            raise ConfigError(f"the files are too large; expected at most {MOST_BYTES >> 20} MiB")
    line, _, content = bytes(found).partition(b"\n")
    try:
        if len(line) > _MOST_LINE_BYTES:
            raise ConfigError("the names of the files are too long; give fewer or shorter ones")
        return _parse(json.loads(line), content)
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError("the files cannot be read; load the page again") from error


def _parse(asked: dict[str, Any], content: bytes) -> Upload:
    classes, queries = asked["classes"], asked["queries"]
    names = [_class_name(str(one["name"])) for one in classes]
    if not 2 <= len(names) <= MOST_CLASSES:
        raise ConfigError(f"{len(names)} classes have files; expected 2 to {MOST_CLASSES}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two classes are called {twice!r}; give one of them another name")
    if not queries:
        raise ConfigError("there is no query; add a file to predict")
    empty = next((n for n, one in zip(names, classes, strict=True) if not one["files"]), None)
    if empty is not None:
        raise ConfigError(f"class {empty!r} has no file; expected 1 or more")
    folders = [(f"support/{n}", one["files"]) for n, one in zip(names, classes, strict=True)]
    files: list[GivenFile] = []
    at = 0
    for folder, entries in [*folders, ("query", queries)]:
        for entry in entries:
            name, size = str(entry["name"])[:200], entry["size"]
            _check_size(name, size)
            files.append(
                GivenFile(f"{folder}/{_file_name(len(files), name)}", name, content[at : at + size])
            )
            at += size
            if len(files) > MOST_FILES:
                raise ConfigError(f"there are too many files; expected at most {MOST_FILES}")
    if at != len(content):
        raise ConfigError("the files did not arrive as a whole; try again")
    return Upload(str(asked["base"]), tuple(files))


def _check_size(name: str, size: object) -> None:
    if type(size) is not int or size < 0:
        raise ConfigError("the size of a file is unknown; load the page again")
    if size > MOST_FILE_BYTES:
        raise ConfigError(
            f"{name!r:.80} has {size / 2**20:.1f} MiB; expected at most {MOST_FILE_BYTES >> 20} MiB"
        )


def _class_name(text: str) -> str:
    """Return a name of a class that can be the name of a folder."""
    name = text.strip()
    is_plain = name.isprintable() and not set(name) & set("/\\") and not name.startswith(".")
    if not name or len(name) > _MOST_NAME or len(name.encode()) > 200 or not is_plain:
        raise ConfigError(
            f"class name {name!r:.80}; expected 1 to {_MOST_NAME} characters without '/', and no "
            "'.' at the start"
        )
    return name


def _file_name(number: int, name: str) -> str:
    """Return a name with only plain characters; the number keeps names apart and in order."""
    return f"{number:03d}-{re.sub(r'[^A-Za-z0-9.-]+', '_', name)[-40:].lstrip('.')}"
