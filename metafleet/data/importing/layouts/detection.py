"""Detect the layout of a folder from its contents."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from metafleet.data.importing.kinds import Kinds
from metafleet.data.importing.layouts.easy_few_shot import is_specification
from metafleet.data.importing.layouts.omniglot_folder import OMNIGLOT_PARTS, TORCHVISION_FOLDER
from metafleet.data.importing.layouts.split_names import find_split, shard_name
from metafleet.data.importing.layouts.walking import files_in, folders_in
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reader import Place
from metafleet.data.importing.tables.table import TABLE_SUFFIXES

_HDF5 = (".hdf5", ".h5")


def find_place(
    path: Path, ask: FolderOptions, *, is_labelled: bool, kinds: Kinds
) -> tuple[str, Place] | None:
    """Determine the layout and the files to read.

    Args:
        path: a folder, or one file in it.
        ask: the options, of which ``layout`` may force a layout.
        is_labelled: whether items must have classes. False allows the layout "flat", a folder of
            files without classes.
        kinds: the kinds that files may have.

    Returns:
        The layout's name and the argument for its reader; None if no layout fits.
    """
    if path.is_file():
        return _of_file(path, ask, is_labelled, kinds)
    for layout, find in _FINDERS.items():
        if ask.layout not in ("auto", layout):
            continue
        files = find(path)
        if files is not None:
            return layout, Place(path, tuple(files), ask, is_labelled, kinds=kinds)
    if not is_labelled and ask.layout == "auto" and files_in(path):
        return "flat", Place(path, (), ask, is_labelled, kinds=kinds)
    return None


def _of_file(
    path: Path, ask: FolderOptions, is_labelled: bool, kinds: Kinds
) -> tuple[str, Place] | None:
    suffix = path.suffix.lower()
    layouts = {".json": "easy_few_shot", ".tar": "webdataset"}
    layouts |= dict.fromkeys(TABLE_SUFFIXES, "manifest") | dict.fromkeys(_HDF5, "torchmeta")
    place = Place(path.parent, (path.name,), ask, is_labelled, kinds=kinds)
    is_item = suffix not in layouts and bool(kinds.of_name(path.name))
    if is_item and not is_labelled and ask.layout == "auto":
        return "flat", place
    if suffix not in layouts:
        return None
    layout = layouts[suffix] if ask.layout == "auto" else ask.layout
    return layout, place


def _huggingface(folder: Path) -> list[str] | None:
    """Find metadata.* here, else in the split folders, else the Parquet shards of the Hub."""
    own = [name for name in files_in(folder) if _is_metadata(name)]
    inner = [
        f"{split}/{name}"
        for split in folders_in(folder)
        if find_split(split)
        for name in files_in(folder / split)
        if _is_metadata(name)
    ]
    return own or inner or _shards(folder) or None


def _shards(folder: Path) -> list[str]:
    """Find Parquet shards of the Hugging Face Hub.

    If this folder contains shards, they are returned. Otherwise, if only the folders of splits
    contain shards, their shards are returned. Otherwise, if exactly one subfolder contains shards,
    such as data/ or the folder of a configuration, its shards are returned. If several other
    subfolders contain shards, none is chosen, because they may hold the same rows.
    """
    found = _folders_of_shards(folder)
    is_plain = len(found) == 1 or _are_splits(found)
    inner = [name for shards in found.values() for name in shards]
    return _own_shards(folder) or (inner if is_plain else [])


def find_configurations(folder: Path) -> list[str]:
    """Return the folders of shards in the Hub's layout if the user has to choose one; else []."""
    if folder.is_file() or _own_shards(folder):
        return []
    found = _folders_of_shards(folder)
    return list(found) if len(found) > 1 and not _are_splits(found) else []


def _folders_of_shards(folder: Path) -> dict[str, list[str]]:
    """Return folder -> shards, for the folders with shards here, or else in data/."""
    here = _shards_in(folder, folders_in(folder))
    return here or _shards_in(folder, [f"data/{name}" for name in folders_in(folder / "data")])


def _are_splits(names: Iterable[str]) -> bool:
    return all(find_split(PurePosixPath(name).name) for name in names)


def _shards_in(folder: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Return folder -> shards, relative to ``folder``, for the named folders with shards."""
    found = {name: [f"{name}/{shard}" for shard in _own_shards(folder / name)] for name in names}
    return {name: shards for name, shards in found.items() if shards}


def _own_shards(folder: Path) -> list[str]:
    return [name for name in files_in(folder) if shard_name(name)]


def _is_metadata(name: str) -> bool:
    stem, _, suffix = name.rpartition(".")
    return stem == "metadata" and f".{suffix}" in TABLE_SUFFIXES


def _torchmeta(folder: Path) -> list[str] | None:
    found = [name for name in files_in(folder) if Path(name).suffix.lower() in _HDF5]
    return found or None


def _webdataset(folder: Path) -> list[str] | None:
    own = [name for name in files_in(folder) if ".tar" in name.lower()]
    inner = [
        f"{split}/{name}"
        for split in folders_in(folder)
        if find_split(split)
        for name in files_in(folder / split)
        if name.lower().endswith(".tar")
    ]
    return own or inner or None


def _omniglot(folder: Path) -> list[str] | None:
    names = {*folders_in(folder), *folders_in(folder / TORCHVISION_FOLDER)}
    return [] if names & set(OMNIGLOT_PARTS) else None


def _libfewshot(folder: Path) -> list[str] | None:
    if "images" not in folders_in(folder):
        return None
    found = [name for name in _split_files(folder, ".csv")]
    return found or None


def _easy_few_shot(folder: Path) -> list[str] | None:
    found = [
        name
        for name in files_in(folder)
        if name.lower().endswith(".json") and is_specification(folder / name)
    ]
    return found or None


def _manifest(folder: Path) -> list[str] | None:
    """Find the only table, or one table per split."""
    tables = [name for name in files_in(folder) if Path(name).suffix.lower() in TABLE_SUFFIXES]
    if len(tables) == 1:
        return tables
    for suffix in TABLE_SUFFIXES:
        found = _split_files(folder, suffix)
        if found:
            return found
    return None


def _split_files(folder: Path, suffix: str) -> list[str]:
    return [
        name
        for name in files_in(folder)
        if name.lower().endswith(suffix) and find_split(Path(name).stem)
    ]


def _split_folders(folder: Path) -> list[str] | None:
    """A class may be called "train": among other folders, a split must have folders of its own."""
    names = folders_in(folder)
    splits = [name for name in names if find_split(name)]
    are_all = bool(splits) and len(splits) == len(names)
    return [] if are_all or any(folders_in(folder / name) for name in splits) else None


def _class_folders(folder: Path) -> list[str] | None:
    return [] if folders_in(folder) else None


_FINDERS: Mapping[str, Callable[[Path], list[str] | None]] = {
    "huggingface": _huggingface,
    "torchmeta": _torchmeta,
    "webdataset": _webdataset,
    "omniglot": _omniglot,
    "libfewshot": _libfewshot,
    "easy_few_shot": _easy_few_shot,
    "manifest": _manifest,
    "split_folders": _split_folders,
    "class_folders": _class_folders,
}
"""Layout -> function that returns its files; [] if the reader finds them, None if none fit."""
