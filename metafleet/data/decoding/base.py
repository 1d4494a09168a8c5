"""What a decoder is: bytes of one file or cell to one array of a fixed shape.

Decoders are functions of bytes and options: no state, safe in any thread and process, the same
bits wherever the same versions of their libraries are installed. They bound what they allocate by
what a header promises, before they allocate it.
"""

import importlib
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from metafleet.errors import DataMissingError

Array = npt.NDArray[Any]


class Decoder(Protocol):
    """Reads one kind of data.

    Attributes:
        kind: "image", "audio", "video", "text", "stroke" or "table".
        version: grows when the same bytes and options give other numbers.
        suffixes: of the files it reads: lower case, with the dot.
        Options: frozen dataclass, all with defaults; see ``metafleet.options``.
    """

    kind: str
    version: int
    suffixes: frozenset[str]
    Options: type[Any]

    def check(self, options: Any) -> None:
        """Make sure that what decoding needs is installed.

        Raises:
            DataMissingError: names the library and the extra that brings it.
        """
        ...

    def is_quick(self, options: Any) -> bool:
        """Tell whether an item is decoded before it could be handed to another process."""
        ...

    def example(self, options: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return dtype and shape of one decoded item."""
        ...

    def decode(self, source: bytes, options: Any) -> Array:
        """Decode one item to the dtype and shape of ``example``.

        Raises:
            DecodeError: the bytes are something else, damaged, empty or unreasonably large; one
                line that does not name the file, which the caller knows.
        """
        ...


def import_library(module: str, *, package: str, extra: str) -> Any:
    """Import an optional library.

    Raises:
        DataMissingError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataMissingError(
            f"reading these data needs {package} ({error}); run `pip install 'metafleet[{extra}]'`"
        ) from error
