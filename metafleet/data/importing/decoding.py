"""Decode every modality of every item; failures are recorded and never fatal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from metafleet.data.decoding.columns import Column, Decoded, decode_columns
from metafleet.data.decoding.registry import get_decoder
from metafleet.data.decoding.source import FileBytes, Source
from metafleet.data.importing.item import Item
from metafleet.data.importing.layouts.hdf5_part import Hdf5Part
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.part import Part
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.summary import Progress
from metafleet.errors import DecodeError
from metafleet.options import parse_options

_SPOOL = "pixels.spool"


def decoder_options(
    ask: FolderOptions, kinds: Mapping[str, str], items: Sequence[Item]
) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """Return all decoder options of each modality, and the options that the data determine.

    The first result is modality -> options object. This object has both the options given for the
    folder and the options that the data determine. The second result is modality -> options that
    the data determine. The second result is stored with the prepared data.

    Raises:
        ConfigError: an option is wrong. The message names the option, its value and what was
            expected.
    """
    options, measured = {}, {}
    for modality, kind in kinds.items():
        decoder, given = get_decoder(kind), ask.of_kind(kind)
        parts = (item.parts[modality] for item in items if modality in item.parts)
        parsed = parse_options(decoder.Options, given, where=f"decoder {kind!r}")
        options[modality], found = decoder.measured(parsed, given, parts)
        if found:
            measured[modality] = found
    return options, measured


def item_columns(
    items: Sequence[Item], kinds: Mapping[str, str], options: Mapping[str, Any], scratch: Path
) -> list[Column]:
    """Return a column for each modality.

    Args:
        items: the items. Each item is one row of every column.
        kinds: modality -> kind.
        options: modality -> options of its decoder.
        scratch: an empty folder for bytes that are not in a file.
    """
    with _Spool(scratch / _SPOOL) as spool:
        return [
            Column(
                modality,
                kind,
                options[modality],
                [_source(item.parts.get(modality), spool) for item in items],
            )
            for modality, kind in kinds.items()
        ]


def decode_items(
    items: Sequence[Item],
    columns: Sequence[Column],
    *,
    scratch: Path,
    progress: Progress,
    log: ProblemLog,
) -> tuple[Decoded, frozenset[int]]:
    """Decode all parts of all items.

    Args:
        items: the items to decode.
        columns: the column of each modality, from ``item_columns``.
        scratch: a folder for the arrays.
        progress: called with the progress.
        log: log to which a problem is added for each part that cannot be decoded.

    Returns:
        The arrays, with one row per item, and the indices of the items that failed.

    Raises:
        DataMissingError: a decoder's library is not installed.
    """
    kinds = {column.modality: column.kind for column in columns}
    decoded = decode_columns(columns, scratch, progress=progress)
    for problem in decoded.problems:
        item = items[problem.item]
        place = item.begin(item.parts[problem.modality]).strip()
        why = f"{place}: {problem.why}" if place else problem.why
        log.add(f"bad-{get_decoder(kinds[problem.modality]).short_name}", item.where, why)
    return decoded, frozenset(problem.item for problem in decoded.problems)


def _source(part: Part | None, spool: "_Spool") -> Source | None:
    if isinstance(part, Hdf5Part):
        return spool.add(part)
    return None if part is None else part.source()


class _Spool:
    """A temporary file for bytes that exist in no image file; in memory they would not fit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: BinaryIO | None = None

    def __enter__(self) -> "_Spool":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._handle is not None:
            self._handle.close()

    def add(self, part: Hdf5Part) -> Source:
        """Write a part's bytes, or none if it cannot be read. Decoding then reports the problem."""
        self._handle = self._handle or self._path.open("wb")
        offset = self._handle.tell()
        try:
            content = part.read()
        except DecodeError:
            content = b""
        self._handle.write(content)
        return FileBytes(self._path, offset, len(content))
