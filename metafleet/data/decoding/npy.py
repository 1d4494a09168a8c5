"""NumPy's npy files; the size in the header is checked against the bytes before reading."""

import io
import tokenize

import numpy as np

from metafleet.data.decoding.base import Array
from metafleet.errors import DecodeError

MAGIC = b"\x93NUMPY"
_ERRORS = (ValueError, EOFError, OSError, SyntaxError, tokenize.TokenError)
"""Errors raised for a damaged header, which is Python text."""


def read_npy(source: bytes) -> Array:
    """Read a numeric array.

    Raises:
        DecodeError: the array is damaged, or its elements are not numbers.
    """
    handle = io.BytesIO(source)
    try:
        version = np.lib.format.read_magic(handle)
        readers = {(1, 0): np.lib.format.read_array_header_1_0}
        reader = readers.get(version, np.lib.format.read_array_header_2_0)
        shape, _, dtype = reader(handle)
        n_items = 1
        for size in shape:
            n_items *= size
        if dtype.kind not in "biuf" or n_items * dtype.itemsize != len(source) - handle.tell():
            raise DecodeError(f"the array {dtype} {list(shape)} does not fit {len(source)} bytes")
        return np.asarray(np.load(io.BytesIO(source), allow_pickle=False))
    except _ERRORS as error:
        raise DecodeError(f"the array cannot be read: {error}") from error
