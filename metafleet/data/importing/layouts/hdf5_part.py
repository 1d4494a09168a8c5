"""One example in an HDF5 file, converted to the bytes of an image file."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metafleet.data.decoding.source import Source
from metafleet.data.importing.part import FilePart
from metafleet.errors import DataMissingError, DecodeError


@dataclass(frozen=True, slots=True)
class Hdf5Part:
    """One row of an HDF5 data set: pixels, or the bytes of an image file.

    Attributes:
        file: the HDF5 file.
        dataset: path of the data set in the file.
        row: row of the example.
    """

    file: FilePart
    dataset: str
    row: int

    @property
    def name(self) -> str:
        """Return the file, data set and row."""
        return f"{self.file.name}/{self.dataset}/{self.row}.ppm"

    @property
    def stamp(self) -> str:
        """Return the file's stamp, the data set and the row."""
        return f"{self.file.stamp}:{self.dataset}:{self.row}"

    def source(self) -> Source:
        """Return the bytes."""
        return self.read()

    def read(self) -> bytes:
        """Return the stored image file's bytes, or the stored pixels as PPM or PGM."""
        try:
            store = open_hdf5(self.file.path, self.file.stamp)
            found = _bytes_of(np.asarray(store[self.dataset][self.row]))
        except (OSError, KeyError, IndexError, ValueError, RuntimeError) as error:
            raise DecodeError(f"the HDF5 file cannot be read: {error}") from error
        if found.ndim == 1:
            return found.tobytes()
        height, width = found.shape[:2]
        magic = "P5" if found.ndim == 2 else "P6"
        return f"{magic} {width} {height} 255\n".encode() + found.tobytes()


def _bytes_of(stored: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Convert numbers to uint8 without changing their values.

    Raises:
        DecodeError: a number is not a whole number from 0 to 255.
    """
    with np.errstate(invalid="ignore"):
        found = stored.astype(np.uint8)
    if not np.array_equal(found, stored):
        low, high = stored.min(), stored.max()
        raise DecodeError(
            f"it holds {stored.dtype} from {low:g} to {high:g}; expected whole numbers from 0 to "
            "255: scale them"
        )
    return found


@lru_cache(maxsize=4)
def open_hdf5(path: Path, stamp: str) -> Any:
    """Open an HDF5 file for reading. The file stays open, because its rows are read one by one.

    Args:
        path: the file.
        stamp: the file's current size and modification time. The stamp is a part of the cache key,
            so that a file is opened again after it was replaced.

    Raises:
        DataMissingError: h5py is not installed.
        OSError: the file is not HDF5.
    """
    try:
        import h5py  # noqa: PLC0415 - only this layout needs it
    except ImportError as error:
        raise DataMissingError(
            "reading HDF5 needs h5py; run `pip install 'metafleet[hdf5]'`"
        ) from error
    return h5py.File(path, "r")
