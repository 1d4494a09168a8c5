"""Prepared data on disk: arrays to memory-map, and an index that says what they are.

    <data_dir>/prepared/<name>-<key>/index.json     classes, arrays, facts, checksums
                                     image.npy      one file for each modality, sorted by class

A folder appears complete or not at all: it is written beside and renamed. ``key`` is a hash of what
the data were made from and how, so other options or other sources never share a folder.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metafleet.errors import DataCorruptError, DataMissingError

FORMAT_VERSION = 1
INDEX = "index.json"
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
        text = (folder / INDEX).read_text(encoding="utf-8")
    except FileNotFoundError:
        if folder.exists():
            raise _damaged(folder, f"it has no {INDEX}") from None
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(folder / INDEX, str(error)) from error
    prepared = _parse_index(folder, text)
    for modality in prepared.arrays:
        prepared.load(modality)
    return prepared


def hash_array(array: Array) -> str:
    """Hash dtype, shape and elements to a sha256 hex digest."""
    sha = hashlib.sha256(f"{array.dtype.str}\0{array.shape}\0".encode())
    sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _parse_index(folder: Path, text: str) -> PreparedData:
    path = folder / INDEX
    try:
        index = json.loads(text)
        checksum = index.pop("checksum")
        if checksum != index_checksum(index):
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


def index_checksum(index: Mapping[str, Any]) -> str:
    """Hash everything the index says but its checksum."""
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
