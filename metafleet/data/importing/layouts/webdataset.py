"""WebDataset's tar shards: consecutive members with the same key are one sample.

    0001.jpg  0001.cls  0001.wav  0001.txt      key: the base name up to its first dot; the rest
    0002.jpg  0002.json                         is the type of the member

The class of a sample is the text of its member ``cls``, or the value of a key in its member
``json``. Shards are read in place, without unpacking their members. Pickles are refused.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from metafleet.data.importing.item import Item
from metafleet.data.importing.layouts.split_names import find_split
from metafleet.data.importing.layouts.walking import is_clutter
from metafleet.data.importing.part import FilePart, Part, SlicePart, find_file
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.reader import Found, Place
from metafleet.data.importing.tables.table import text_of
from metafleet.errors import DecodeError

_PICKLES = frozenset({"pyd", "pth", "pt", "pickle", "pkl"})
_LABEL_KEYS = ("label", "class", "cls", "class_name", "category")
_MAX_LABEL_BYTES = 1 << 20
_END_BYTES = 1024  # of zeros, after the last member

_Sample = dict[str, SlicePart]


def read_webdataset(place: Place, log: ProblemLog) -> Found:
    """Read shards; a name like train-*, or a folder like train, gives a shard's split."""
    items: list[Item] = []
    labels: list[str] = []
    seen: dict[str, str] = {}
    for name in place.files:
        shard = find_file(place.folder, name)
        if shard is None:
            log.add_fatal("missing-file", name, "is not there")
            continue
        split = _split_of(PurePosixPath(name))
        for key, sample in _samples(shard, log):
            where = f"{name}/{key}"
            if key in seen:
                log.add(
                    "split-sample",
                    where,
                    f"its key is also in {seen[key]}; members of a sample must be side by side, "
                    "and keys differ",
                )
                continue
            seen[key] = name
            item = _item(where, sample, place, log, labels)
            if item is not None:
                items.append(Item(where, item.label, item.parts, item.split or split))
    return Found(items, [f"read {len(place.files)} shards"], labels=tuple(labels))


def _split_of(path: PurePosixPath) -> str:
    stem = path.stem.replace("_", "-").split("-")[0]
    return find_split(stem) or find_split(path.parent.name)


def _samples(shard: FilePart, log: ProblemLog) -> Iterator[tuple[str, _Sample]]:
    """Yield the key and members of each run of members with the same key."""
    current, sample = "", _Sample()
    for key, extension, part in _members(shard, log):
        if key != current:
            if sample:
                yield current, sample
            current, sample = key, {}
        if extension in sample:
            log.add("duplicate-file", part.name, "is in the archive twice; the first one is taken")
        sample.setdefault(extension, part)
    if sample:
        yield current, sample


def _members(shard: FilePart, log: ProblemLog) -> Iterator[tuple[str, str, SlicePart]]:
    end = 0
    try:
        with tarfile.open(shard.path, "r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name.replace("\\", "/"))
                end = member.offset_data + member.size
                is_clutter_here = any(is_clutter(part) for part in path.parts if part != "..")
                if member.isdir() or is_clutter_here or _is_refused(shard, member, path, log):
                    continue
                if end > shard.n_bytes:
                    log.add("unreadable-file", shard.name, f"ends within member {member.name!r}")
                    return
                base, _, extension = path.name.partition(".")
                part = SlicePart(shard, member.offset_data, member.size, str(path))
                yield str(path.parent / base), extension.lower(), part
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        log.add_fatal(
            "unreadable-file",
            shard.name,
            f"is no whole, uncompressed tar ({error}); get it again, or uncompress it",
        )
        return
    if shard.n_bytes < end + _END_BYTES:
        log.add("unreadable-file", shard.name, "has no end mark: it was cut short; get it again")


def _is_refused(
    shard: FilePart, member: tarfile.TarInfo, path: PurePosixPath, log: ProblemLog
) -> bool:
    where = f"{shard.name}/{member.name}"
    if path.is_absolute() or ".." in path.parts:
        log.add("outside-folder", where, "leads out of the archive; recreate it without such paths")
    elif not member.isreg() or member.sparse is not None:
        log.add("refused-member", where, "is a link, device or sparse; expected plain files")
    elif set(path.name.lower().split(".")[1:]) & _PICKLES:
        log.add(
            "refused-member", where, "may be a pickle, which runs code when read; store it plain"
        )
    else:
        return False
    return True


def _item(
    where: str, sample: _Sample, place: Place, log: ProblemLog, labels: list[str]
) -> Item | None:
    """Return the item of a sample, or None; add its class to ``labels`` in both cases."""
    notes = _notes(where, sample, log)
    parts: dict[str, Part] = {}
    for extension, part in sample.items():
        inner, _, suffix = extension.rpartition(".")
        kind = place.kinds.called(place.kinds.of_part(part, hint=inner))
        if extension in ("cls", "json"):
            continue
        if not kind:
            log.add(
                "unknown-type",
                part.name,
                f"no decoder reads {suffix!r}; expected one of {place.kinds.suffixes()}",
            )
            continue
        if (inner or kind) in parts:
            log.add(
                "duplicate-file",
                part.name,
                f"is another {kind} of sample {where}; name it KEY.front.{suffix}, say",
            )
        parts.setdefault(inner or kind, part)
    label = _label(where, notes, place, log)
    labels += [label] if label else []
    named = text_of(notes.get(place.ask.split_column or "split")) or ""
    split = find_split(named)
    if named and not split:
        log.add("unknown-split", where, f"is of split {named!r}; expected train, val or test")
    if label is None or (named and not split):
        return None
    if not parts:
        log.add("empty-item", where, "has no member that a decoder reads; delete it")
        return None
    return Item(where, label, parts, split)


def _notes(where: str, sample: _Sample, log: ProblemLog) -> dict[str, Any]:
    """Return the values that cls and json give for a sample."""
    notes: dict[str, Any] = {}
    for extension in ("json", "cls"):
        part = sample.get(extension)
        if part is None:
            continue
        try:
            if part.n_bytes > _MAX_LABEL_BYTES:
                raise ValueError(f"{part.n_bytes} bytes")
            text = part.read().decode()
            notes |= {"cls": text.strip()} if extension == "cls" else dict(json.loads(text))
        except UnicodeDecodeError:
            log.add("not-utf8", part.name, "is not UTF-8")
        except (DecodeError, ValueError, TypeError, RecursionError) as error:
            log.add("bad-line", part.name, f"is no JSON object ({error})")
    return notes


def _label(where: str, notes: dict[str, Any], place: Place, log: ProblemLog) -> str | None:
    keys = (place.ask.label,) if place.ask.label else ("cls", *_LABEL_KEYS)
    values = [notes[key] for key in keys if key in notes]
    label = text_of(values[0]) if values else ""
    if label or not place.is_labelled:
        return label or ""
    if label is None:
        log.add("bad-label", where, f"its class is a {type(values[0]).__name__}; give a text")
    else:
        log.add(
            "empty-label", where, f"has no class: expected one of {', '.join(keys)} in cls or json"
        )
    return None
