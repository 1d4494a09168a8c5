"""torchmeta's HDF5: data.hdf5 or {train,val,test}_data.hdf5, and classes in *_labels.json.

A label names the HDF5 data set of a class. The label is a list of names that form a path of groups
(Omniglot, CIFAR-FS), or one name in the group ``datasets`` (mini-ImageNet, tiered-ImageNet, CUB).
The HDF5 data set of a class holds either pixels, uint8 [n, height, width] or [n, height, width, 3],
or n image files as bytes.
"""

import contextlib
import json
import math
from pathlib import PurePosixPath
from typing import Any

from metafleet.data.decoding.raster import MAX_PIXELS
from metafleet.data.importing.item import Item
from metafleet.data.importing.layouts.hdf5_part import Hdf5Part, open_hdf5
from metafleet.data.importing.layouts.split_names import SPLIT_OF
from metafleet.data.importing.layouts.walking import files_in
from metafleet.data.importing.part import FilePart, find_file
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.reader import Found, Place
from metafleet.errors import DataMissingError

_SHARED = "data.hdf5"
_LABELS = "_labels.json"
_MOST_COMPRESSED = 1100
"""Upper bound for the compression ratio: deflate reaches 1032."""


def read_torchmeta(place: Place, log: ProblemLog) -> Found:
    """Read the classes that the label files name; use only Vinyals' split if it is there."""
    names = [name for name in files_in(place.folder) if name.endswith(_LABELS)]
    vinyals = [name for name in names if name.startswith("vinyals_")]
    items: list[Item] = []
    for name in vinyals or names:
        split_name = name.removesuffix(_LABELS).split("_")[-1]
        split = SPLIT_OF.get(split_name, "")
        own = find_file(place.folder, f"{split_name}_{_SHARED}")
        file = own or find_file(place.folder, _SHARED)
        if file is None:
            log.add_fatal("missing-file", name, f"there is no {split_name}_{_SHARED} or {_SHARED}")
            continue
        items += _read_classes(file, _read_labels(place, name, log), split, log)
    if not names:
        log.add_fatal("missing-file", _SHARED, "there is no *_labels.json that names its classes")
    return Found(items, [f"read {', '.join(vinyals or names)}"])


def _read_labels(place: Place, name: str, log: ProblemLog) -> list[tuple[str, ...]]:
    try:
        labels = json.loads((place.folder / name).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        log.add_fatal("bad-manifest", name, f"is not JSON ({error})")
        return []
    paths = [_path(label) for label in labels] if isinstance(labels, list) else [None]
    if None in paths:
        log.add_fatal("bad-manifest", name, "expected a list of classes: names, or lists of names")
        return []
    return [path for path in paths if path]


def _path(label: Any) -> tuple[str, ...] | None:
    path = (label,) if isinstance(label, str) else label
    is_path = isinstance(path, list | tuple) and all(isinstance(p, str) and p for p in path)
    return tuple(path) if is_path and path else None


def _read_classes(
    file: FilePart, paths: list[tuple[str, ...]], split: str, log: ProblemLog
) -> list[Item]:
    try:
        store = open_hdf5(file.path, file.stamp)
    except (OSError, DataMissingError) as error:
        kind = "missing-package" if isinstance(error, DataMissingError) else "unreadable-file"
        log.add_fatal(kind, file.name, str(error).splitlines()[0])
        return []
    items: list[Item] = []
    for path in dict.fromkeys(paths):  # read a class once even if it is named twice
        inner = "/".join(path)
        dataset = _find_dataset(store, inner)
        problem = _problem_of(dataset, file)
        if problem is not None:
            log.add(problem[0], f"{file.name}/{inner}", problem[1])
            continue
        label = "/".join(path[1:]) if path[0].startswith("images_") else inner
        group = "/".join(PurePosixPath(label).parent.parts)
        for row in range(len(dataset)):
            part = Hdf5Part(file, dataset.name.lstrip("/"), row)
            items.append(Item(part.name, label, {"image": part}, split, group))
    return items


def _find_dataset(store: Any, inner: str) -> Any:
    """Return the object stored under a class's name; None if there is none."""
    for name in (inner, f"datasets/{inner}"):
        with contextlib.suppress(KeyError, ValueError, OSError):  # a link that leads nowhere
            return store[name]
    return None


def _problem_of(dataset: Any, file: FilePart) -> tuple[str, str] | None:
    """Return the kind and message of a problem in the header of a class's data set, or None."""
    if dataset is None:
        return "missing-file", "is not there"
    if not _is_images(dataset):
        return "bad-manifest", (
            f"is {_describe(dataset)}; expected uint8 [n, height, width], [n, height, width, 3] "
            "or n image files"
        )
    n_pixels = math.prod(dataset.shape[1:3])
    if not 1 <= n_pixels <= MAX_PIXELS:
        return "bad-image", f"is {_describe(dataset)}; expected 1 to {MAX_PIXELS} pixels each"
    if dataset.nbytes > _MOST_COMPRESSED * file.n_bytes:
        return "bad-manifest", (
            f"is {_describe(dataset)}, more than a file of {file.n_bytes} bytes can hold"
        )
    return None


def _is_images(dataset: Any) -> bool:
    if not hasattr(dataset, "shape"):
        return False  # a group
    if len(dataset.shape) == 1:
        inner = dataset.dtype.metadata or {}
        return str(inner.get("vlen")) == "uint8"
    is_grey = len(dataset.shape) == 3
    is_colour = len(dataset.shape) == 4 and dataset.shape[3] == 3
    return str(dataset.dtype) == "uint8" and (is_grey or is_colour)


def _describe(dataset: Any) -> str:
    if not hasattr(dataset, "shape"):
        return "a group"
    return f"{dataset.dtype} {list(dataset.shape)}"
