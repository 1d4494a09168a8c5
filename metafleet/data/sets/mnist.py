"""MNIST's 10,000 test digits on the user's disk: written counterparts of spoken digits."""

import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metafleet.data.prepared.download import hash_file
from metafleet.errors import DataCorruptError

_NPZ_NAME = "mnist10k_28x28.npz"
_IDX_NAMES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_FOLDERS = ("", "raw", "MNIST/raw")
_SIDE = 28
_MAX_DIGITS = 60_000
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Digits:
    """Written digits found on disk.

    Attributes:
        fingerprint: hash of the files.
        read: a function that returns images uint8 [n, 28, 28] with ink 255, and labels [n], 0 to 9.
    """

    fingerprint: str
    read: Callable[[], tuple[Images, Labels]]


def find_digits(path: Path) -> Digits | None:
    """Return the digits in the idx files or the npz at ``path``; None if there are none."""
    if path.is_file():
        return Digits(hash_file(path), partial(_read_npz, path))
    if (path / _NPZ_NAME).is_file():
        return Digits(hash_file(path / _NPZ_NAME), partial(_read_npz, path / _NPZ_NAME))
    for folder in (path / name for name in _FOLDERS):
        for suffix in ("", ".gz"):
            files = [folder / f"{name}{suffix}" for name in _IDX_NAMES]
            if all(file.is_file() for file in files):
                whole = "".join(map(hash_file, files))
                return Digits(hashlib.sha256(whole.encode()).hexdigest(), partial(_read_idx, files))
    return None


def _read_npz(path: Path) -> tuple[Images, Labels]:
    try:
        with np.load(path, allow_pickle=False) as npz:
            return _checked(path, npz["images"], npz["labels"])
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise _unreadable(path, str(error)) from error


def _read_idx(files: list[Path]) -> tuple[Images, Labels]:
    """Read the idx format: magic number, sizes, bytes; big-endian."""
    images, labels = (_idx_bytes(path) for path in files)
    n_digits = (len(images) - 16) // _SIDE**2
    if images[:4] != b"\0\0\x08\x03" or len(images) != 16 + n_digits * _SIDE**2:
        raise _unreadable(files[0], "it is no idx file of images of 28x28")
    if labels[:4] != b"\0\0\x08\x01" or len(labels) != 8 + n_digits:
        raise _unreadable(files[1], f"it is no idx file of {n_digits} labels")
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(n_digits, _SIDE, _SIDE)
    return _checked(files[0], pixels, np.frombuffer(labels, np.uint8, offset=8))


def _idx_bytes(path: Path) -> bytes:
    limit = 16 + _MAX_DIGITS * _SIDE**2
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as handle:
            data = handle.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, str(error)) from error
    if len(data) > limit:
        raise _unreadable(path, f"it has more than {limit} bytes")
    return data


def _checked(path: Path, images: Any, labels: Any) -> tuple[Images, Labels]:
    is_sound = images.dtype == np.uint8 and images.shape == (len(labels), _SIDE, _SIDE)
    if not is_sound or labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise _unreadable(path, f"images are {images.dtype} {images.shape}")
    return images, labels.astype(np.int64)


def _unreadable(path: Path, why: str) -> DataCorruptError:
    return DataCorruptError(f"{path} cannot be read as MNIST ({why}); get it again")
