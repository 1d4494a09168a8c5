"""Decode what was read: every item of every modality, all failures noted, none fatal."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from metafleet.data.decoding.columns import Column, Decoded, decode_columns
from metafleet.data.decoding.registry import DECODERS
from metafleet.data.decoding.source import FilePart as FileBytes
from metafleet.data.decoding.source import Source
from metafleet.data.importing.item import Item
from metafleet.data.importing.layouts.hdf5_part import Hdf5Part
from metafleet.data.importing.levels import measure_range
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.part import Part
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.summary import Progress
from metafleet.errors import DecodeError
from metafleet.options import parse_options

_SPOOL = "pixels.spool"


def decoder_options(
    ask: FolderOptions, kinds: Mapping[str, str], items: Sequence[Item]
) -> dict[str, Any]:
    """Return modality -> options of its decoder, as the folder's options say.

    Each table has the width of its first row, unless the options say another; the range of all
    pictures is measured where they ask for it.

    Raises:
        ConfigError: names the option, its value and what was expected.
    """
    found = {
        modality: parse_options(
            DECODERS[kind].Options, getattr(ask, kind), where=f"decoder {kind!r}"
        )
        for modality, kind in kinds.items()
    }
    for modality, kind in kinds.items():
        if kind == "table" and "width" not in ask.table:
            width = _first_width(items, modality)
            found[modality] = dataclasses.replace(found[modality], width=width)
        if kind == "image" and found[modality].range == "data":
            span = measure_range(items, modality)
            found[modality] = dataclasses.replace(found[modality], range=span)
    return found


def decode_items(
    items: Sequence[Item],
    kinds: Mapping[str, str],
    options: Mapping[str, Any],
    *,
    scratch: Path,
    progress: Progress,
    log: ProblemLog,
) -> tuple[Decoded, frozenset[int]]:
    """Decode all parts of all items.

    Args:
        items: what to decode.
        kinds: modality -> kind.
        options: modality -> options of its decoder.
        scratch: an empty folder that takes the arrays.
        progress: told how far it is.
        log: takes what could not be decoded.

    Returns:
        The arrays, one row an item, and the numbers of the items that failed.

    Raises:
        DataMissingError: a decoder's library is not installed.
    """
    with _Spool(scratch / _SPOOL) as spool:
        columns = [
            Column(
                modality,
                kind,
                options[modality],
                [_source(item.parts.get(modality), spool) for item in items],
            )
            for modality, kind in kinds.items()
        ]
    decoded = decode_columns(columns, scratch, progress=progress)
    for problem in decoded.problems:
        item = items[problem.item]
        place = item.begin(item.parts[problem.modality]).strip()
        why = f"{place}: {problem.why}" if place else problem.why
        log.add(f"bad-{kinds[problem.modality]}", item.where, why)
    return decoded, frozenset(problem.item for problem in decoded.problems)


def _first_width(items: Sequence[Item], modality: str) -> int:
    """Return the numbers of a table's first row that can be read."""
    for item in items:
        part = item.parts.get(modality)
        with contextlib.suppress(DecodeError):  # decoding it will say what is wrong
            if part is not None:
                return part.read().count(b",") + 1
    return 1


def _source(part: Part | None, spool: "_Spool") -> Source | None:
    if isinstance(part, Hdf5Part):
        return spool.add(part)
    return None if part is None else part.source()


class _Spool:
    """A file for bytes that lie nowhere as an image: they would fill the memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: BinaryIO | None = None

    def __enter__(self) -> "_Spool":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._handle is not None:
            self._handle.close()

    def add(self, part: Hdf5Part) -> Source:
        """Write a part's bytes; nothing of a part that cannot be read, which decoding then says."""
        self._handle = self._handle or self._path.open("wb")
        offset = self._handle.tell()
        try:
            content = part.read()
        except DecodeError:
            content = b""
        self._handle.write(content)
        return FileBytes(self._path, offset, len(content))
