"""The table of concepts: their names, and the paths of their pictures, sounds and clips."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from metafleet.episode import META_TEST, META_TRAIN, META_VAL
from metafleet.errors import DataCorruptError

_NAME = "manifest.csv"
_MAX_BYTES = 1 << 24
_FEWEST_CONCEPTS = 5
_SPLITS = {"train": META_TRAIN, "val": META_VAL, "test": META_TEST}
_REQUIRED = ("concept", "split", "label", "category", "video")


@dataclass(frozen=True, slots=True)
class Concept:
    """One concept. The mappings have no key for a file that is missing.

    Attributes:
        name: name of the concept, such as "alarmclock".
        split: split of the concept, such as "meta_train".
        subgroup, category: Unicode's subgroup, such as "time", and the group of the subgroup, such
            as "Travel & Places".
        images: vendor -> path of the picture in the manifest's folder.
        texts: language -> name of the thing.
        sounds: language -> path of the sound.
        clip: path of the clip; "" if it is missing.
    """

    name: str
    split: str
    subgroup: str
    category: str
    images: Mapping[str, str]
    texts: Mapping[str, str]
    sounds: Mapping[str, str]
    clip: str

    def paths(self) -> list[str]:
        """Return all paths."""
        return [*self.images.values(), *self.sounds.values(), *filter(None, [self.clip])]


def find_manifest(root: Path) -> Path | None:
    """Return the table: ``root`` itself or a file in it; None if there is none."""
    path = root / _NAME if root.is_dir() else root
    return path if path.is_file() else None


def fingerprint(manifest: Path) -> str:
    """Return a hash of the table, and of the sizes and times of the files it names."""
    sha = hashlib.sha256(manifest.read_bytes())
    for concept in read_manifest(manifest):
        for path in concept.paths():
            try:
                facts = (manifest.parent / path).stat()
            except OSError as error:
                raise DataCorruptError(
                    f"{manifest} names {path!r}, which cannot be read "
                    f"({error.strerror or error}); get the folder again"
                ) from error
            sha.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return sha.hexdigest()


def read_manifest(path: Path) -> list[Concept]:
    """Return the concepts in the table, sorted by name.

    Raises:
        DataCorruptError: the file is not a table of concepts, or it names files outside its folder.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES} bytes")
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
        concepts = [_concept(row) for row in rows]
        if not concepts or len({concept.name for concept in concepts}) < len(concepts):
            raise ValueError("it has no concepts, or one twice")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataCorruptError(
            f"{path} cannot be read as the table of concepts "
            f"({type(error).__name__}: {error}); get it again"
        ) from error
    return sorted(concepts, key=lambda concept: concept.name)


def large_subgroups(concepts: Sequence[Concept]) -> list[str]:
    """Return the subgroups with five or more concepts, sorted."""
    counts: dict[str, int] = {}
    for concept in concepts:
        counts[concept.subgroup] = counts.get(concept.subgroup, 0) + 1
    return sorted(name for name, count in counts.items() if count >= _FEWEST_CONCEPTS)


def split_subgroups(subgroups: Sequence[str]) -> dict[str, str]:
    """Return subgroup -> split: five for validation, five for testing, by hashes of the names."""
    order = sorted(subgroups, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    held_out = [META_VAL] * 5 + [META_TEST] * 5
    return dict.fromkeys(order, META_TRAIN) | dict(zip(order, held_out, strict=False))


def _concept(row: Mapping[str, str]) -> Concept:
    if not all(row[column] for column in _REQUIRED[:-1]):
        raise ValueError(f"a row lacks one of {', '.join(_REQUIRED[:-1])}")
    concept = Concept(
        name=row["concept"],
        split=_SPLITS[row["split"]],
        subgroup=row["label"],
        category=row["category"],
        images=_columns(row, "image_"),
        texts=_columns(row, "text_"),
        sounds=_columns(row, "audio_"),
        clip=row["video"],
    )
    for path in map(PurePosixPath, concept.paths()):
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{str(path)!r} points outside the folder")
    return concept


def _columns(row: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {
        column.removeprefix(prefix): value
        for column, value in row.items()
        if column.startswith(prefix) and value
    }
