"""Prepared data on disk: memory-mapped arrays, and an index that describes them.

    <data_dir>/prepared/<name>-<key>/index.json         classes, arrays, facts, checksums
                                     image.npy          one file per modality, sorted by class
                                     image.present.npy  True for items that have the modality
                                     image.views.npy    features of augmented views of the items

A folder appears complete or not at all, because it is written under a temporary name and then
renamed. ``key`` is a hash of the sources and options of the data, so that different sources or
options never share a folder.
"""

import glob
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metafleet.digests import json_sha256
from metafleet.episode import CLASS_TEXT
from metafleet.errors import DataCorruptError, DataMissingError

FORMAT_VERSION = 1
INDEX = "index.json"
MEASURED = "measured"
"""Recipe key of the options that were measured during preparation; no user sets it."""
_KEY_DIGITS = 16
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """One class: ``n_items`` consecutive rows of every array.

    Attributes:
        name: unique name in its data set.
        group: group of the class, such as a script or an alphabet.
        n_items: number of rows of the class.
    """

    name: str
    group: str
    n_items: int


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """Description of one modality's array, which its file must match.

    Attributes:
        dtype: numpy's name of the element type.
        shape: [items, *shape of one example].
        file_bytes: size of the file.
        sha256: hash of dtype, shape and elements.
        n_present: number of items that have this modality. All other items are zeros.
        kind: kind of data, such as "image" or "audio"; see ``metafleet.data.decoding``.
        encoder: digest of the pretrained encoder, if the array holds features; "" if it holds
            items.
    """

    dtype: str
    shape: tuple[int, ...]
    file_bytes: int
    sha256: str
    n_present: int
    kind: str
    encoder: str = ""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """A complete folder of prepared data.

    Attributes:
        path: the folder.
        classes: the classes in the order of their rows.
        arrays: modality -> description of its array.
        facts: further facts for users.
        masks: modality -> description of its mask, bool [items], which is True for items that have
            the modality. A modality has a mask only if some items lack the modality.
        splits: split -> its classes in order, if the preparation chose the splits.
        recipe: description, as JSON values, of how the data were made. The recipe does not name the
            source of the data.
        encoders: modality -> identity of the pretrained encoder that computed its features. The
            identity contains the sha256 of the encoder's files. The key ``CLASS_TEXT`` stands for
            the encoder of the names of classes.
        views: modality -> description of the array of views 1, 2, ..., [items, views - 1,
            features].
        class_text: description of the features of the names of classes, [classes, d]; None if there
            are none.
    """

    path: Path
    classes: tuple[ClassInfo, ...]
    arrays: Mapping[str, ArrayInfo]
    facts: Mapping[str, str]
    masks: Mapping[str, ArrayInfo] = field(default_factory=dict)
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    encoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    views: Mapping[str, ArrayInfo] = field(default_factory=dict)
    class_text: ArrayInfo | None = None

    @property
    def n_items(self) -> int:
        """Number of rows of every array."""
        return sum(info.n_items for info in self.classes)

    def load(self, modality: str) -> Array:
        """Memory-map one modality's array, read-only.

        Raises:
            DataMissingError: there is no such modality.
            DataCorruptError: the file does not match the index.
        """
        if modality not in self.arrays:
            raise DataMissingError(
                f"the data prepared in {self.path} have no modality {modality!r}; "
                f"they have {', '.join(sorted(self.arrays))}"
            )
        return _map_array(self.path / f"{modality}.npy", self.arrays[modality])

    def load_mask(self, modality: str) -> npt.NDArray[np.bool_] | None:
        """Return which items have a modality, bool [items]; None if all items have it.

        If no mask is stored, the items that are all zeros lack the modality.

        Raises:
            DataMissingError, DataCorruptError: for the same reasons as ``load``.
        """
        array = self.load(modality)
        if modality in self.masks:
            return np.array(_map_array(self._mask_path(modality), self.masks[modality]))
        if self.arrays[modality].n_present == self.n_items:
            return None
        return np.array(array.reshape(len(array), -1).any(axis=1))

    def load_views(self, modality: str) -> Array | None:
        """Memory-map the features of views 1, 2, ... of the items; None if there are none.

        Raises:
            DataCorruptError: the file does not match the index.
        """
        if modality not in self.views:
            return None
        return _map_array(self._views_path(modality), self.views[modality])

    def load_class_text(self) -> Array | None:
        """Return the features of the class names, float32 [classes, d]; None if there are none.

        Raises:
            DataCorruptError: the file does not match the index.
        """
        info = self.class_text
        return None if info is None else _map_array(self.path / f"{CLASS_TEXT}.npy", info)

    def check(self) -> None:
        """Check the sizes, dtypes and shapes of all files against the index.

        Raises:
            DataCorruptError: a file does not match the index.
        """
        for path, info in self.files():
            _map_array(path, info)

    def verify(self) -> None:
        """Read every byte and compare it with the index.

        Raises:
            DataCorruptError: an array has changed since it was prepared.
        """
        for path, info in self.files():
            if hash_array(_map_array(path, info)) != info.sha256:
                raise _damaged(path, "its sha256 differs")

    def files(self) -> Iterator[tuple[Path, ArrayInfo]]:
        """Yield the path and the description of each array, mask and array of views."""
        for modality, info in self.arrays.items():
            yield self.path / f"{modality}.npy", info
        for modality, info in self.masks.items():
            yield self._mask_path(modality), info
        for modality, info in self.views.items():
            yield self._views_path(modality), info
        if self.class_text is not None:
            yield self.path / f"{CLASS_TEXT}.npy", self.class_text

    def _mask_path(self, modality: str) -> Path:
        return self.path / f"{modality}.present.npy"

    def _views_path(self, modality: str) -> Path:
        return self.path / f"{modality}.views.npy"


def folder_of(data_dir: Path, name: str, recipe: Mapping[str, Any]) -> Path:
    """Return the folder of data made by ``recipe`` (JSON values)."""
    key = json_sha256({"format": FORMAT_VERSION, **recipe})[:_KEY_DIGITS]
    return data_dir / "prepared" / f"{name}-{key}"


def find_prepared(folder: Path) -> PreparedData | None:
    """Open ``folder``; return None if it does not exist.

    This checks sizes, dtypes and shapes. ``PreparedData.verify`` checks every byte.

    Raises:
        DataCorruptError: the folder is damaged.
    """
    try:
        text = (folder / INDEX).read_text(encoding="utf-8")
    except FileNotFoundError:
        if folder.exists():
            raise _damaged(folder, f"it has no {INDEX}") from None
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(folder / INDEX, str(error)) from error
    prepared = parse_index(folder, text)
    prepared.check()
    return prepared


def find_by_recipe(data_dir: Path, name: str, recipe: Mapping[str, Any]) -> PreparedData | None:
    """Return the newest data prepared by ``recipe`` from any original; None if there are none.

    Workers call this function, because it does not need the original. Damaged folders are skipped.
    """
    wanted = json.loads(json.dumps(recipe))  # the form in which an index returns it
    found = []
    for folder in (data_dir / "prepared").glob(f"{glob.escape(name)}-*"):
        try:
            prepared = find_prepared(folder)
            changed_ns = folder.stat().st_mtime_ns
        except (DataCorruptError, OSError):  # damaged, or deleted in the meantime
            continue
        if prepared is None:
            continue
        if {key: it for key, it in prepared.recipe.items() if key != MEASURED} == wanted:
            found.append((changed_ns, folder.name, prepared))
    return max(found, key=lambda entry: entry[:2])[2] if found else None


def hash_array(array: Array) -> str:
    """Return the sha256 hex digest of dtype, shape and elements."""
    sha = begin_hash(array.dtype, array.shape)
    sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def begin_hash(dtype: np.dtype[Any], shape: tuple[int, ...]) -> "hashlib._Hash":
    """Begin the hash of an array whose elements are added in chunks, in C order."""
    return hashlib.sha256(f"{dtype.str}\0{shape}\0".encode())


def parse_index(folder: Path, text: str) -> PreparedData:
    """Read the text of an index; ``PreparedData.check`` checks the files.

    Raises:
        DataCorruptError: the text is not an index.
    """
    path = folder / INDEX
    try:
        index = json.loads(text)
        checksum = index.pop("checksum")
        if checksum != index_checksum(index):
            raise _damaged(path, "its checksum differs")
        return PreparedData(
            path=folder,
            classes=tuple(ClassInfo(*entry) for entry in index["classes"]),
            arrays=_parse_arrays(index["arrays"]),
            facts=index["facts"],
            masks=_parse_arrays(index.get("masks", {})),
            splits={split: tuple(names) for split, names in index.get("splits", {}).items()},
            recipe=index.get("recipe", {}),
            encoders=index.get("encoders", {}),
            views=_parse_arrays(index.get("views", {})),
            class_text=_parse_arrays({n: index[n] for n in (CLASS_TEXT,) if n in index}).get(
                CLASS_TEXT
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _parse_arrays(entries: Mapping[str, Any]) -> dict[str, ArrayInfo]:
    """Return the descriptions; in folders of earlier versions a modality's name is its kind."""
    return {
        modality: ArrayInfo(**{"kind": modality, **info, "shape": tuple(info["shape"])})
        for modality, info in entries.items()
    }


def index_checksum(index: Mapping[str, Any]) -> str:
    """Return a hash of the index without its checksum."""
    return json_sha256(index)


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
