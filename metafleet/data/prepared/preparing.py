"""Create prepared data: only once, atomically, and in one process at a time."""

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metafleet.data.prepared.prepared import (
    FORMAT_VERSION,
    INDEX,
    Array,
    ArrayInfo,
    ClassInfo,
    PreparedData,
    begin_hash,
    find_prepared,
    index_checksum,
)
from metafleet.encoders.store import store_key
from metafleet.episode import CLASS_TEXT
from metafleet.errors import DataCorruptError, DataError
from metafleet.files import sync, write_whole
from metafleet.locking import exclusive, exclusive_if_free

_CHUNK_BYTES = 1 << 23
_ABANDONED_S = 86_400.0
_SCRATCH = re.compile(r"\.([^.].*)\.[a-z0-9_]+")  # names made by ``temporary``
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Content:
    """The result of a preparation.

    Attributes:
        classes: the classes in the order of their rows.
        arrays: modality -> array with as many rows as the classes have items.
        present: modality -> number of items that have it. A modality is listed here if the items
            that lack it are stored as zeros. A modality that is neither here nor in ``masks`` is in
            all items.
        facts: further facts about the data, which are stored to be shown to users.
        masks: modality -> bool [items], True for items that have the modality. A mask that is True
            for all items is not stored.
        kinds: modality -> its kind. The default is the modality's name.
        encoders: modality -> identity of the encoder, for arrays that hold features.
        views: modality -> features [items, views - 1, features] of views 1, 2, ... of the items.
            View 0 is in ``arrays``.
        rows: the row numbers of the arrays and masks to store, in the order of storing; None for
            all rows.
        splits: split -> its classes in order, if the preparation chooses the splits.
        recipe: a description, as JSON values, of how the data were made. The description does not
            name the source of the data; see ``find_by_recipe``.
        class_text: features of the names of ``classes``, float32 [classes, d]; None for no
            features.
    """

    classes: Sequence[ClassInfo]
    arrays: Mapping[str, Array]
    present: Mapping[str, int]
    facts: Mapping[str, str]
    masks: Mapping[str, Array] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    encoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    views: Mapping[str, Array] = field(default_factory=dict)
    rows: npt.NDArray[np.int64] | None = None
    splits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    class_text: Array | None = None

    @property
    def n_items(self) -> int:
        """Number of items of all classes."""
        return sum(info.n_items for info in self.classes)


def find_or_prepare(folder: Path, make: Callable[[], Content]) -> PreparedData:
    """Open ``folder``; if it does not exist, fill it with the result of ``make``.

    A damaged folder is built again. Several processes may call this function at the same time.

    Raises:
        DataError: the folder cannot be written.
    """
    return find_or_decode(folder, lambda scratch: make())


def find_or_decode(folder: Path, make: Callable[[Path], Content]) -> PreparedData:
    """Open or fill ``folder`` like ``find_or_prepare``, for content that does not fit into memory.

    Args:
        folder: folder of the prepared data.
        make: a function that takes an empty scratch folder for arrays and returns the content. The
            scratch folder is on the same disk as ``folder`` and is deleted after the preparation.

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
            sweep(folder)
            with temporary(folder) as scratch, temporary(folder) as draft:
                _write(draft, _made(folder, lambda: make(scratch)))
                publish(draft, folder)
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
    """Open ``folder``; return None if it does not exist or is damaged."""
    try:
        return find_prepared(folder)
    except DataCorruptError:
        return None


def _made(folder: Path, make: Callable[[], Content]) -> Content:
    try:
        return make()
    except OSError as error:  # otherwise the caller would report a failure to write
        raise DataError(
            f"cannot read what {folder.name} is made from ({error}); check the original"
        ) from error


@contextlib.contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """Create a hidden folder next to ``folder``, and delete it afterwards unless it was renamed."""
    path = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Delete temporary folders of preparations that were killed more than a day ago.

    The caller must hold the lock of ``folder``. A temporary folder of other prepared data is
    deleted only if the lock of those data is free.
    """
    for path in folder.parent.iterdir():
        found = _SCRATCH.fullmatch(path.name)
        with contextlib.suppress(OSError):  # already deleted, or owned by another user
            if found is None or not path.is_dir():
                continue
            if time.time() - path.stat().st_mtime <= _ABANDONED_S:
                continue
            if found[1] == folder.name:
                shutil.rmtree(path, ignore_errors=True)
                continue
            with exclusive_if_free(path.with_name(f".{found[1]}.lock")) as is_held:
                if is_held:
                    shutil.rmtree(path, ignore_errors=True)


def _write(draft: Path, content: Content) -> None:
    masks = {name: mask for name, mask in content.masks.items() if not _kept(content, mask).all()}
    index: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "classes": [[info.name, info.group, info.n_items] for info in content.classes],
        "arrays": {
            modality: asdict(_write_array(draft, modality, array, content))
            for modality, array in content.arrays.items()
        },
        "masks": {
            modality: asdict(_write_array(draft, f"{modality}.present", mask, content))
            for modality, mask in masks.items()
        },
        "facts": dict(content.facts),
        "splits": {split: list(names) for split, names in content.splits.items()},
        "recipe": dict(content.recipe),
    }
    if content.encoders:
        index["encoders"] = dict(content.encoders)
    if content.views:
        index["views"] = {
            modality: asdict(_write_array(draft, f"{modality}.views", array, content))
            for modality, array in content.views.items()
        }
    if content.class_text is not None:
        index[CLASS_TEXT] = asdict(_write_names(draft, content.class_text, content))
    index["checksum"] = index_checksum(json.loads(json.dumps(index)))
    write_whole(draft / INDEX, json.dumps(index, ensure_ascii=False, indent=1).encode(), mode=None)
    # same permissions as the parent: mkdtemp's 0700 would hide a shared folder from other users
    draft.chmod(draft.parent.stat().st_mode & 0o755)


def _write_names(draft: Path, rows: Array, content: Content) -> ArrayInfo:
    """Write the features of the names of classes like an array with one item of each class."""
    classes = [replace(info, n_items=1) for info in content.classes]
    as_items = Content(classes, {}, {}, {}, kinds={CLASS_TEXT: "text"}, encoders=content.encoders)
    return _write_array(draft, CLASS_TEXT, rows, as_items)


def _write_array(draft: Path, name: str, array: Array, content: Content) -> ArrayInfo:
    n_rows = len(array) if content.rows is None else len(content.rows)
    if n_rows != content.n_items:
        raise DataError(
            f"modality {name!r} has {n_rows} rows but the classes have {content.n_items} items"
        )
    if not FILE_NAME.fullmatch(name):
        raise DataError(f"modality {name!r} cannot be a file's name; rename it")
    shape = (n_rows, *array.shape[1:])
    path, sha = draft / f"{name}.npy", begin_hash(array.dtype, shape)
    with path.open("wb") as handle:
        header = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(handle, header)
        for chunk in _chunks(array, content.rows):
            raw = chunk.reshape(-1).view(np.uint8)
            sha.update(raw.data)
            if raw.any():  # compares bytes: those of -0.0 are not all zero
                handle.write(chunk.data)
            else:
                handle.seek(chunk.nbytes, os.SEEK_CUR)  # a hole, which takes no space on disk
        handle.truncate()
    sync(path)
    n_present = content.present.get(name, n_rows)
    if name in content.masks:
        n_present = int(_kept(content, content.masks[name]).sum())
    return ArrayInfo(
        dtype=array.dtype.name,
        shape=shape,
        file_bytes=path.stat().st_size,
        sha256=sha.hexdigest(),
        n_present=n_present,
        kind=content.kinds.get(name, name),
        encoder=store_key(content.encoders[name]) if name in content.encoders else "",
    )


def _kept(content: Content, array: Array) -> Array:
    return array if content.rows is None else array[content.rows]


def _chunks(array: Array, rows: npt.NDArray[np.int64] | None) -> Iterator[Array]:
    """Yield the kept rows, in order, in chunks of some MiB."""
    n_rows = len(array) if rows is None else len(rows)
    row_bytes = max(1, array.nbytes // max(1, len(array)))
    step = max(1, _CHUNK_BYTES // row_bytes)
    for start in range(0, n_rows, step):
        chosen = slice(start, start + step) if rows is None else rows[start : start + step]
        yield np.ascontiguousarray(array[chosen])


def publish(draft: Path, folder: Path) -> None:
    """Rename a complete folder to its final name, unless a sound one is there."""
    if folder.exists():  # damaged, or created by a process whose lock is not visible here
        if find_sound(folder) is not None:
            return
        shutil.rmtree(folder)
    try:
        draft.rename(folder)
    except OSError:
        if find_sound(folder) is None:
            raise
