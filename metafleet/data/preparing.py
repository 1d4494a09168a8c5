"""Make prepared data: once, whole, and by one process at a time."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metafleet.data.locking import exclusive
from metafleet.data.prepared import (
    FORMAT_VERSION,
    INDEX,
    Array,
    ArrayInfo,
    ClassInfo,
    PreparedData,
    find_prepared,
    hash_array,
    index_checksum,
)
from metafleet.errors import DataCorruptError, DataError


@dataclass(frozen=True, slots=True)
class Content:
    """What a preparation makes.

    Attributes:
        classes: in order of the rows.
        arrays: modality -> array with as many rows as the classes have items.
        present: modality -> items that have it; modalities not named are complete.
        facts: further facts worth keeping, for people.
    """

    classes: Sequence[ClassInfo]
    arrays: Mapping[str, Array]
    present: Mapping[str, int]
    facts: Mapping[str, str]


def find_or_prepare(folder: Path, make: Callable[[], Content]) -> PreparedData:
    """Open ``folder``, or fill it with what ``make`` returns. Safe in concurrent processes.

    A damaged folder is made anew.

    Raises:
        DataError: the folder cannot be written.
    """
    found = find_sound(folder)
    if found is not None:
        return found
    try:
        with exclusive(folder.with_name(f".{folder.name}.lock")):
            found = find_sound(folder)
            if found is not None:
                return found
            _write(folder, _made(folder, make))
    except OSError as error:
        raise DataError(
            f"cannot write prepared data to {folder} ({error.strerror or error}); "
            "free space there or set METAFLEET_DATA_DIR to another folder"
        ) from error
    written = find_prepared(folder)
    if written is None:
        raise DataError(f"{folder} vanished while it was prepared; prepare it again")
    return written


def find_sound(folder: Path) -> PreparedData | None:
    """Open ``folder``; None when it does not exist or is damaged."""
    try:
        return find_prepared(folder)
    except DataCorruptError:
        return None


def _made(folder: Path, make: Callable[[], Content]) -> Content:
    try:
        return make()
    except OSError as error:  # else it would pass for a failure to write
        raise DataError(
            f"cannot read what {folder.name} is made from ({error}); check the original"
        ) from error


def _write(folder: Path, content: Content) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        index: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "classes": [[info.name, info.group, info.n_items] for info in content.classes],
            "arrays": {
                modality: asdict(_write_array(draft, modality, array, content))
                for modality, array in content.arrays.items()
            },
            "facts": dict(content.facts),
        }
        index["checksum"] = index_checksum(index)
        _write_file(draft / INDEX, json.dumps(index, ensure_ascii=False, indent=1).encode())
        draft.chmod(0o755)  # mkdtemp's 0700 would hide a shared data folder from other users
        _publish(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_array(draft: Path, modality: str, array: Array, content: Content) -> ArrayInfo:
    n_items = sum(info.n_items for info in content.classes)
    if array.shape[0] != n_items:
        raise DataError(
            f"modality {modality!r} has {array.shape[0]} rows but the classes have {n_items} items"
        )
    path = draft / f"{modality}.npy"
    with path.open("wb") as handle:
        np.save(handle, array, allow_pickle=False)
        handle.flush()
        os.fsync(handle.fileno())
    return ArrayInfo(
        dtype=array.dtype.name,
        shape=array.shape,
        file_bytes=path.stat().st_size,
        sha256=hash_array(array),
        n_present=content.present.get(modality, n_items),
    )


def _write_file(path: Path, data: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _publish(draft: Path, folder: Path) -> None:
    if folder.exists():  # damaged, or made by a process whose lock we could not see
        if find_sound(folder) is not None:
            return
        shutil.rmtree(folder)
    try:
        draft.rename(folder)
    except OSError:
        if find_sound(folder) is None:
            raise
