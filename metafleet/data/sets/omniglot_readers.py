"""Read Omniglot from any of its formats on disk.

- **members**: the official PNGs (105x105, ink black) and stroke texts, in the zips or in unpacked
  folders, such as torchvision's ``omniglot-py``. A PNG is inverted, so that ink is 255, and then
  averaged to 28x28 pixels (Pillow's BOX filter).
- **npz**: ``omniglot_28x28_strokes64.npz``, which has strokes, and pixels equal to those computed
  from the PNGs.
"""

import contextlib
import hashlib
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metafleet.data.prepared.archive import SafeZip
from metafleet.data.prepared.download import hash_file
from metafleet.data.sets.omniglot_classes import CHARACTERS, N_DRAWERS
from metafleet.data.sets.omniglot_decoding import SIDE, Drawing, decode_png, decode_strokes
from metafleet.data.strokes import N_POINTS
from metafleet.data.summary import Progress
from metafleet.errors import DataCorruptError, DataMissingError

N_DRAWINGS = len(CHARACTERS) * N_DRAWERS
_NPZ_NAME = "omniglot_28x28_strokes64.npz"
_SETS = ("background", "evaluation")
_MEMBER = re.compile(r"(?:^|/)([^/]+/character\d\d)/\d{4}_(\d\d)\.(?:png|txt)$")

Readers = Mapping[Drawing, Callable[[], bytes]]


@dataclass(frozen=True, slots=True)
class Drawings:
    """All drawings of Omniglot, by character in canonical order and then by drawer, 1 to 20.

    Attributes:
        images: [32460, 28, 28] uint8, ink 255.
        strokes: [32460, 64, 3] float16. Drawings without strokes are zeros. None if strokes were
            not read.
    """

    images: npt.NDArray[np.uint8]
    strokes: npt.NDArray[np.float16] | None


@dataclass(frozen=True, slots=True)
class OmniglotSource:
    """Omniglot found on disk.

    Attributes:
        kind: "npz", "zip" or "folder".
        has_strokes: whether strokes can be read too.
        fingerprint: hash of the content of an npz or of zips; for folders, hash of the names, sizes
            and modification times of the files.
        read: a function that reads all drawings, with or without strokes.
    """

    kind: str
    has_strokes: bool
    fingerprint: str
    read: Callable[[bool, Progress], Drawings]


def find_source(root: Path) -> OmniglotSource | None:
    """Return Omniglot at ``root``, the path of the npz or of a folder; None if it is not there.

    Raises:
        DataMissingError: only one of the background set and the evaluation set is there.
    """
    if root.is_file():
        return _npz_source(root)
    for base in (root, root / "omniglot-py"):
        if (base / _NPZ_NAME).is_file():
            return _npz_source(base / _NPZ_NAME)
        zips = [base / f"images_{part}.zip" for part in _SETS]
        folders = [base / f"images_{part}" for part in _SETS]
        if all(path.is_dir() for path in folders):
            return _folder_source(base, folders)
        if all(path.is_file() for path in zips):
            return _zip_source(base, zips)
        found = [path for path in (*folders, *zips) if path.exists()]
        if found:
            raise DataMissingError(
                f"{base} has {found[0].name} only; Omniglot is images_background and "
                "images_evaluation, as folders or as zips: put the other next to it"
            )
    return None


def _npz_source(path: Path) -> OmniglotSource:
    return OmniglotSource("npz", True, hash_file(path), partial(_read_npz, path))


def _zip_source(base: Path, images: list[Path]) -> OmniglotSource:
    strokes = [base / f"strokes_{part}.zip" for part in _SETS]
    has_strokes = all(path.is_file() for path in strokes)
    files = images + (strokes if has_strokes else [])

    def read(with_strokes: bool, progress: Progress) -> Drawings:
        with contextlib.ExitStack() as stack:
            wanted = _zip_readers(strokes, stack) if with_strokes else None
            return _read_members(base, _zip_readers(images, stack), wanted, progress)

    fingerprint = hashlib.sha256("".join(map(hash_file, files)).encode()).hexdigest()
    return OmniglotSource("zip", has_strokes, fingerprint, read)


def _folder_source(base: Path, images: list[Path]) -> OmniglotSource:
    strokes = [base / f"strokes_{part}" for part in _SETS]
    has_strokes = all(path.is_dir() for path in strokes)
    paths = _files(images + (strokes if has_strokes else []))
    sha = hashlib.sha256()
    for path in paths:
        facts = path.stat()
        sha.update(f"{path.relative_to(base)}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())

    def read(with_strokes: bool, progress: Progress) -> Drawings:
        wanted = _folder_readers(strokes) if with_strokes else None
        return _read_members(base, _folder_readers(images), wanted, progress)

    return OmniglotSource("folder", has_strokes, sha.hexdigest(), read)


def _files(folders: Iterable[Path]) -> list[Path]:
    found = (path for folder in folders for path in folder.glob("*/*/*.*"))
    return sorted(path for path in found if _MEMBER.search(path.as_posix()))


def _folder_readers(folders: Iterable[Path]) -> Readers:
    return {_drawing(path.as_posix()): path.read_bytes for path in _files(folders)}


def _zip_readers(paths: Iterable[Path], stack: contextlib.ExitStack) -> Readers:
    readers: dict[Drawing, Callable[[], bytes]] = {}
    for path in paths:
        archive = stack.enter_context(contextlib.closing(SafeZip(path)))
        for name in archive.names:
            if _MEMBER.search(name):
                readers[_drawing(name)] = partial(archive.read, name)
    return readers


def _drawing(path: str) -> Drawing:
    match = _MEMBER.search(path)
    if match is None:
        raise DataCorruptError(f"{path!r} is not named like a drawing of Omniglot")
    return match[1], int(match[2])


def _read_members(
    base: Path, images: Readers, strokes: Readers | None, progress: Progress
) -> Drawings:
    wanted = [(name, drawer) for name in CHARACTERS for drawer in range(1, N_DRAWERS + 1)]
    for readers in (images, *(() if strokes is None else (strokes,))):
        missing = [drawing for drawing in wanted if drawing not in readers]
        if missing:
            name, drawer = missing[0]
            raise DataCorruptError(
                f"{base} has {N_DRAWINGS - len(missing)} of Omniglot's {N_DRAWINGS} drawings; "
                f"the first missing is {name} by drawer {drawer}; get the data again"
            )
    pixels = np.empty((N_DRAWINGS, SIDE, SIDE), np.uint8)
    paths = None if strokes is None else np.empty((N_DRAWINGS, N_POINTS, 3), np.float16)
    for row, drawing in enumerate(wanted):
        if row % 1000 == 0:
            progress("reading drawings", row, N_DRAWINGS)
        pixels[row] = decode_png(drawing, images[drawing])
        if strokes is not None and paths is not None:
            paths[row] = decode_strokes(drawing, strokes[drawing])
    progress("reading drawings", N_DRAWINGS, N_DRAWINGS)
    return Drawings(pixels, paths)


def _read_npz(path: Path, with_strokes: bool, progress: Progress) -> Drawings:
    progress("reading drawings", 0, 0)
    if not zipfile.is_zipfile(path):
        raise DataCorruptError(f"{path} is no whole npz file; expected {_NPZ_NAME}")
    try:
        with np.load(path, allow_pickle=False) as npz:
            names = [str(name) for name in npz["character_names"]]
            rows = npz["character"].astype(int), npz["drawer"].astype(int)
            images = npz["images"]
            strokes = npz["strokes"] if with_strokes else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataCorruptError(
            f"{path} cannot be read as Omniglot ({error}); expected {_NPZ_NAME}, whole"
        ) from error
    _check_npz(path, names, rows, images, strokes)
    if strokes is not None:
        strokes = np.where(np.isnan(strokes).any(axis=(1, 2), keepdims=True), 0, strokes)
        strokes = strokes.astype(np.float16)
    return Drawings(images, strokes)


def _check_npz(
    path: Path, names: list[str], rows: tuple[Any, Any], images: Any, strokes: Any
) -> None:
    expected: dict[str, tuple[Any, Any, tuple[int, ...]]]
    expected = {"images": (images, np.uint8, (N_DRAWINGS, SIDE, SIDE))}
    if strokes is not None:
        expected["strokes"] = (strokes, np.float16, (N_DRAWINGS, N_POINTS, 3))
    for what, (array, dtype, shape) in expected.items():
        if array.dtype != dtype or array.shape != shape:
            raise DataCorruptError(
                f"{path}: {what} are {array.dtype} {array.shape}, "
                f"expected {np.dtype(dtype)} {shape}; it is not {_NPZ_NAME}"
            )
    order = np.repeat(np.arange(len(CHARACTERS)), N_DRAWERS)
    drawers = np.tile(np.arange(1, N_DRAWERS + 1), len(CHARACTERS))
    is_canonical = np.array_equal(rows[0], order) and np.array_equal(rows[1], drawers)
    if names != list(CHARACTERS) or not is_canonical:
        raise DataCorruptError(f"{path}: characters or drawers are not in Omniglot's order")
