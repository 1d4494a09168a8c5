"""Prepared data on disk: arrays to memory-map, and an index that says what they are.

    <data_dir>/prepared/<name>-<key>/index.json     classes, arrays, facts, checksums
                                     image.npy      one file for each modality, sorted by class

A folder appears complete or not at all: it is written beside and renamed. ``key`` is a hash of what
the data were made from and how, so other options or other sources never share a folder.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metafleet.data.locking import exclusive
from metafleet.errors import DataCorruptError, DataError, DataMissingError

FORMAT_VERSION = 1
_INDEX = "index.json"
_KEY_DIGITS = 16
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """One class: ``n_items`` consecutive rows of every array.

    Attributes:
        name: unique in its data set.
        group: what the class belongs to, such as a script or an alphabet.
        n_items: rows of the class.
    """

    name: str
    group: str
    n_items: int


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """One modality's array, as its file must be.

    Attributes:
        dtype: numpy's name of the element type.
        shape: [items, *shape of one example].
        file_bytes: size of the file.
        sha256: of dtype, shape and elements.
        n_present: items that have this modality; the others are all zeros.
    """

    dtype: str
    shape: tuple[int, ...]
    file_bytes: int
    sha256: str
    n_present: int


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


@dataclass(frozen=True, slots=True)
class PreparedData:
    """A complete folder of prepared data.

    Attributes:
        path: the folder.
        classes: in order of the rows.
        arrays: modality -> its array's description.
        facts: further facts, for people.
    """

    path: Path
    classes: tuple[ClassInfo, ...]
    arrays: Mapping[str, ArrayInfo]
    facts: Mapping[str, str]

    def load(self, modality: str) -> Array:
        """Memory-map one modality's array, read-only.

        Raises:
            DataMissingError: there is no such modality.
            DataCorruptError: the file is not what the index promises.
        """
        if modality not in self.arrays:
            raise DataMissingError(
                f"the data prepared in {self.path} have no modality {modality!r}; "
                f"they have {', '.join(sorted(self.arrays))}"
            )
        return _map_array(self.path / f"{modality}.npy", self.arrays[modality])

    def verify(self) -> None:
        """Read every byte and compare with the index.

        Raises:
            DataCorruptError: an array differs from what was prepared.
        """
        for modality, info in self.arrays.items():
            if hash_array(self.load(modality)) != info.sha256:
                raise _damaged(self.path / f"{modality}.npy", "its sha256 differs")


def folder_of(data_dir: Path, name: str, recipe: Mapping[str, Any]) -> Path:
    """Return where data made by ``recipe`` (JSON values) are kept."""
    text = json.dumps({"format": FORMAT_VERSION, **recipe}, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]
    return data_dir / "prepared" / f"{name}-{key}"


def find_prepared(folder: Path) -> PreparedData | None:
    """Open ``folder``; None when it does not exist.

    Sizes, types and shapes are checked, not every byte: ``PreparedData.verify`` does that.

    Raises:
        DataCorruptError: it is damaged.
    """
    try:
        text = (folder / _INDEX).read_text(encoding="utf-8")
    except FileNotFoundError:
        if folder.exists():
            raise _damaged(folder, f"it has no {_INDEX}") from None
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(folder / _INDEX, str(error)) from error
    prepared = _parse_index(folder, text)
    for modality in prepared.arrays:
        prepared.load(modality)
    return prepared


def find_or_prepare(folder: Path, make: Callable[[], Content]) -> PreparedData:
    """Open ``folder``, or fill it with what ``make`` returns. Safe in concurrent processes.

    A damaged folder is made anew.

    Raises:
        DataError: the folder cannot be written.
    """
    found = _find_sound(folder)
    if found is not None:
        return found
    try:
        with exclusive(folder.with_name(f".{folder.name}.lock")):
            found = _find_sound(folder)
            if found is not None:
                return found
            _write(folder, make())
    except OSError as error:
        raise DataError(
            f"cannot write prepared data to {folder} ({error.strerror or error}); "
            "free space there or set METAFLEET_DATA_DIR to another folder"
        ) from error
    written = find_prepared(folder)
    if written is None:
        raise DataError(f"{folder} vanished while it was prepared; prepare it again")
    return written


def _find_sound(folder: Path) -> PreparedData | None:
    try:
        return find_prepared(folder)
    except DataCorruptError:
        return None


def hash_array(array: Array) -> str:
    """Hash dtype, shape and elements to a sha256 hex digest."""
    sha = hashlib.sha256(f"{array.dtype.str}\0{array.shape}\0".encode())
    sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


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
        index["checksum"] = _index_checksum(index)
        _write_file(draft / _INDEX, json.dumps(index, ensure_ascii=False, indent=1).encode())
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
        if _find_sound(folder) is not None:
            return
        shutil.rmtree(folder)
    try:
        draft.rename(folder)
    except OSError:
        if _find_sound(folder) is None:
            raise


def _parse_index(folder: Path, text: str) -> PreparedData:
    path = folder / _INDEX
    try:
        index = json.loads(text)
        checksum = index.pop("checksum")
        if checksum != _index_checksum(index):
            raise _damaged(path, "its checksum differs")
        return PreparedData(
            path=folder,
            classes=tuple(ClassInfo(*entry) for entry in index["classes"]),
            arrays={
                modality: ArrayInfo(**{**info, "shape": tuple(info["shape"])})
                for modality, info in index["arrays"].items()
            },
            facts=index["facts"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _index_checksum(index: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _map_array(path: Path, info: ArrayInfo) -> Array:
    try:
        size = path.stat().st_size
        if size != info.file_bytes:
            raise _damaged(path, f"{size} bytes where {info.file_bytes} were written")
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if mapped.dtype.name != info.dtype or mapped.shape != info.shape:
        raise _damaged(path, f"{mapped.dtype} {mapped.shape}, not {info.dtype} {info.shape}")
    return np.asarray(mapped)  # a plain view: indexing np.memmap itself is slower


def _damaged(path: Path, why: str) -> DataCorruptError:
    folder = path.parent if path.suffix else path
    return DataCorruptError(
        f"prepared data are damaged: {path}: {why}; "
        f"delete {folder} and run `metafleet data prepare` again"
    )
