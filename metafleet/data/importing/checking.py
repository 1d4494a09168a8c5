"""Check a folder from its layout down to its pixels, and report all problems at once."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metafleet.data.decoding.base import Array
from metafleet.data.decoding.columns import Decoded
from metafleet.data.decoding.encoded_columns import encode_columns
from metafleet.data.decoding.features import check_encoder, features_folder
from metafleet.data.decoding.registry import get_decoder
from metafleet.data.importing.decoding import decode_items, decoder_options, item_columns
from metafleet.data.importing.item import Item, Reading
from metafleet.data.importing.labels import sort_by_labels
from metafleet.data.importing.levels import say_lost_levels
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.problems import DataProblem, ProblemLog
from metafleet.data.importing.splits import assign_splits, check_splits, large_classes
from metafleet.data.label_text import labels_in, say_joined
from metafleet.data.summary import Progress
from metafleet.episodes.class_names import count_leaks
from metafleet.errors import ConfigError

_MORE_LEVELS = (
    "keep more with --set {kind}.range=data (from the least to the most of all pictures), =file "
    "(of each one) or =[LOW,HIGH]"
)
_SEVERAL = "if items have several labels, give --label-separator '{separator}'"
_LONGEST_CHARACTER = 4  # bytes of UTF-8; texts are cut between two characters


@dataclass(frozen=True, slots=True)
class CheckedFolder:
    """The result of checking a folder.

    Attributes:
        items: the items without problems, sorted by class.
        kinds: modality -> kind, for modalities that at least one of ``items`` has.
        decoded: arrays and masks of these modalities, for all items that were read, valid or not.
        rows: rows of ``decoded`` that belong to ``items``; None for all rows.
        splits: class -> split. If items may have several labels, a class is a set of labels.
        problems: all problems. If a problem names an item, this item is not in ``items``.
        notes: decisions to show to the user.
        measured: modality -> decoder options that were derived from the data.
    """

    items: tuple[Item, ...]
    kinds: Mapping[str, str]
    decoded: Decoded
    rows: npt.NDArray[np.int64] | None
    splits: Mapping[str, str]
    problems: tuple[DataProblem, ...]
    notes: tuple[str, ...]
    measured: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def is_usable(self, *, skip_bad: bool) -> bool:
        """Return whether the folder can be prepared; ``skip_bad`` leaves out non-fatal problems."""
        if not skip_bad:
            return not self.problems
        return not any(problem.is_fatal for problem in self.problems)


def check_folder(
    reading: Reading, ask: FolderOptions, *, scratch: Path, progress: Progress
) -> CheckedFolder:
    """Decode the items of a folder and check the folder as a whole.

    Args:
        reading: the contents of the folder.
        ask: options that say how to use the contents.
        scratch: an empty folder for the arrays. It must exist for as long as the arrays are used.
        progress: called with the progress of decoding.

    Raises:
        ConfigError: an option of a decoder is wrong.
        DataMissingError: a decoder's library is not installed.
    """
    log = ProblemLog()
    log.extend(reading.problems)
    if any(problem.is_fatal for problem in reading.problems):
        return CheckedFolder((), {}, Decoded({}, {}, ()), None, {}, log.all(), reading.notes)
    items = sorted(reading.items, key=lambda item: item.label)
    options, measured = decoder_options(ask, reading.kinds, items)
    _check_encoders(reading.kinds, options, ask)
    columns = item_columns(items, reading.kinds, options, scratch)
    decoded, failed = decode_items(items, columns, scratch=scratch, progress=progress, log=log)
    sound = [number for number in range(len(items)) if number not in failed]
    if ask.label_separator:
        sorted_, used, notes = sort_by_labels({n: items[n] for n in sound}, ask, log)
        check_splits(used, ask, log, n_classes=len(used))
    else:
        joined = say_joined((item.label for item in items), _SEVERAL)
        large = large_classes([items[number].label for number in sound], ask, log)
        splits, notes = assign_splits([items[number] for number in sound], ask, log, large=large)
        notes = [*joined, *notes]
        used = {label: split for label, split in splits.items() if label in large}
        check_splits(used, ask, log, n_classes=len(large))
        sorted_ = {n: items[n] for n in sound if items[n].label in used}
    kept = list(sorted_)
    kinds, lost = _held_kinds([items[number] for number in kept], reading.kinds)
    encoded = encode_columns(
        [column for column in columns if column.modality in kinds],
        _only(decoded, kept),
        scratch,
        store=features_folder(scratch),
        progress=progress,
    )
    return CheckedFolder(
        items=tuple(sorted_.values()),
        kinds=kinds,
        decoded=_of(kinds, encoded),
        rows=None if kept == list(range(len(items))) else np.array(kept, np.int64),
        splits=_of_classes(sorted_.values(), used, ask.label_separator),
        problems=log.all(),
        notes=(
            *reading.notes,
            *notes,
            *reading.say_lost(items[number] for number in sound),
            *lost,
            *encoded.notes,
            *_texts_that_tell(items, kept, kinds, decoded),
            *_texts_that_were_cut(items, kept, kinds, decoded, options),
            *_copies(items, kept, decoded),
            *say_lost_levels(items, kept, decoded, reading.kinds, options, advice=_MORE_LEVELS),
        ),
        measured=measured,
    )


def _check_encoders(
    kinds: Mapping[str, str], options: Mapping[str, Any], ask: FolderOptions
) -> None:
    """Check the encoders before anything is decoded.

    Raises:
        ConfigError: an encoder is given for a kind that the folder does not have, or an encoder
            does not take the folder's items.
        DataMissingError, DataCorruptError: weights are missing or damaged.
    """
    for kind, given in ask.decoders.items():
        if given.get("encoder", "bytes") not in ("", "bytes") and kind not in kinds.values():
            raise ConfigError(
                f"{kind}.encoder={given['encoder']!r}, but the folder has no {kind}; it has "
                f"{', '.join(sorted(set(kinds.values())))}"
            )
    for modality, kind in kinds.items():
        check_encoder(kind, options[modality])


def _only(decoded: Decoded, rows: Sequence[int]) -> Decoded:
    """Return the decoded arrays, with the masks of all rows other than ``rows`` cleared."""
    kept = np.zeros(max(map(len, decoded.masks.values()), default=0), np.bool_)
    kept[list(rows)] = True
    return replace(decoded, masks={name: mask & kept for name, mask in decoded.masks.items()})


def _of_classes(items: Iterable[Item], splits: Mapping[str, str], separator: str) -> dict[str, str]:
    """Return class -> split. A class may be a set of labels, all of one split."""
    if not separator:
        return dict(splits)
    return {item.label: splits[labels_in(item.label, separator)[0]] for item in items}


def _held_kinds(
    items: Sequence[Item], kinds: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Return the kinds of modalities that items still have, and a note for each other modality."""
    held = {name: kind for name, kind in kinds.items() if any(name in it.parts for it in items)}
    lost = [
        f"modality {name!r} is left out: no item without fault has it"
        for name in kinds
        if items and name not in held
    ]
    return held, lost


def _of(kinds: Mapping[str, str], decoded: Decoded) -> Decoded:
    """Return only the arrays and masks of these modalities."""
    return replace(
        decoded,
        arrays={name: array for name, array in decoded.arrays.items() if name in kinds},
        masks={name: mask for name, mask in decoded.masks.items() if name in kinds},
    )


def _copies(items: Sequence[Item], rows: Sequence[int], decoded: Decoded) -> list[str]:
    """Return a note that counts the items that are copies of others."""
    repeats = find_repeats(decoded, rows)
    if not repeats:
        return []
    row, earlier = repeats[0]
    kinds = {items[a].label == items[b].label for a, b in repeats}
    classes = "of other classes too" if False in kinds else "of their own classes"
    return [
        f"copies of other items: {len(repeats)}, {classes}, such as {items[row].where} of "
        f"{items[earlier].where}; one in a support set tells what the other is: delete them"
    ]


def _texts_that_tell(
    items: Sequence[Item], rows: Sequence[int], kinds: Mapping[str, str], decoded: Decoded
) -> list[str]:
    """Return notes that count texts with the name of their class, which a model could just read."""
    numbers = {label: n for n, label in enumerate(dict.fromkeys(items[row].label for row in rows))}
    notes = []
    as_bytes = dict(_kept_texts(kinds, decoded))
    for modality in (name for name, kind in kinds.items() if get_decoder(kind).is_text):
        having = [row for row in rows if modality in items[row].parts]
        texts = as_bytes.get(modality)  # None: stored as features, which can leak as much as text
        told = (
            (
                numbers[items[row].label],
                items[row].parts[modality].read() if texts is None else texts[row],
            )
            for row in having
        )
        n = count_leaks(list(numbers), told)
        if n:
            notes.append(
                f"{n} of {modality!r} say the name of their class, which a model can then read "
                "off; leave them out by data.modalities if it should not"
            )
    return notes


def _texts_that_were_cut(
    items: Sequence[Item],
    rows: Sequence[int],
    kinds: Mapping[str, str],
    decoded: Decoded,
    options: Mapping[str, Any],
) -> list[str]:
    """Return notes that count the texts that were truncated."""
    notes = []
    for modality, texts in _kept_texts(kinds, decoded):
        if not hasattr(options[modality], "max_bytes"):
            continue
        width = texts.shape[1]
        full = [row for row in rows if texts[row, -_LONGEST_CHARACTER:].any()]
        lengths = [len(items[row].parts[modality].read().strip()) for row in full]
        cut = [length for length in lengths if length > width]
        if cut:
            called = get_decoder(kinds[modality]).short_name
            notes.append(
                f"{len(cut)} of {modality!r} were cut to {width} bytes, the longest has "
                f"{max(cut)}; keep more with --set {called}.max_bytes=N"
            )
    return notes


def _kept_texts(kinds: Mapping[str, str], decoded: Decoded) -> list[tuple[str, Array]]:
    """Return (modality, array) for the texts that are stored as bytes."""
    texts = [name for name, kind in kinds.items() if get_decoder(kind).is_text]
    found = {name: decoded.arrays.get(name) for name in texts}
    return [(n, it) for n, it in found.items() if it is not None and it.dtype == np.uint8]


_DIGEST_BYTES = 16


def find_repeats(decoded: Decoded, rows: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs (row, earlier row) of items that are identical in all their modalities.

    Decoded content is compared. The comparison therefore finds copies, links, and files that differ
    only in bytes that models do not get.

    Args:
        decoded: arrays and masks.
        rows: the rows to compare.
    """
    first: dict[bytes, int] = {}
    pairs = ((row, first.setdefault(_digest(decoded, row), row)) for row in rows)
    return [(row, earlier) for row, earlier in pairs if row != earlier]


def _digest(decoded: Decoded, row: int) -> bytes:
    sha = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for modality, array in decoded.arrays.items():
        is_there = bool(decoded.masks[modality][row])
        sha.update(b"1" if is_there else b"0")
        if is_there:
            sha.update(np.ascontiguousarray(array[row]).reshape(-1).view(np.uint8).data)
    return sha.digest()
