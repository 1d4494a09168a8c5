"""What a decoder is: bytes of one file or cell to one array of a fixed shape.

Decoders are functions of bytes and options: no state, safe in any thread and process, the same
bits wherever the same versions of their libraries are installed. They bound what they allocate by
what a header promises, before they allocate it. A decoder also says everything else about its kind
of data: code outside ``metafleet.data.decoding`` asks the decoder and compares no names of kinds.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from metafleet.data.decoding.drawing import Fonts
from metafleet.errors import DataMissingError

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[Any]


class Readable(Protocol):
    """A file or cell that a decoder may look at before anything is decoded."""

    @property
    def name(self) -> str:
        """Return its name, with the suffix of its content."""
        ...

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            DecodeError: it cannot be read.
        """
        ...


class Decoder(ABC):
    """Reads one kind of data, and says everything about it.

    Attributes:
        kind: its name: a modality that is the only one of its kind is called so, and so is the
            table of its options in ``[data]``.
        version: grows when the same bytes and options give other numbers.
        suffixes: of the files it reads: lower case, with the dot.
        Options: frozen dataclass, all with defaults; see ``metafleet.options``.
        default_encoder: name of the model that ``fusion`` takes for it.
        problem: what is wrong with an item that cannot be decoded; the problem is "bad-<kind>".
        is_pixels: models get the stored bytes divided by 255.
        is_picture: an item is one picture, uint8 [channels, height, width], of which a model can
            get light and dark swapped. An option ``range``, if it has one, is a ``depth.Range``.
        is_text: an item is a text: uint8, UTF-8 with zeros after the end; or features of it, of
            another dtype, for which ``fusion`` takes an adapter. An option ``max_bytes``, if it has
            one, says where a text is cut.
        joins_columns: columns of numbers in a manifest make an item, of which ``decode`` gets the
            numbers joined by commas.
        is_in_every_recipe: its options are in the recipe of every prepared folder, given or not.
            True only of the kinds of the first version: of another, it would prepare all folders
            again.
        n_squares: width of its tile on a contact sheet, in squares.
    """

    kind: str
    version: int
    suffixes: frozenset[str]
    Options: type[Any]
    default_encoder: str
    problem: str
    is_pixels: bool = False
    is_picture: bool = False
    is_text: bool = False
    joins_columns: bool = False
    is_in_every_recipe: bool = False
    n_squares: int = 1

    @property
    def short_name(self) -> str:
        """Return what people call the kind."""
        return self.kind

    def check(self, options: Any) -> None:  # noqa: B027 - most need nothing but numpy
        """Make sure that what decoding needs is installed.

        Raises:
            DataMissingError: names the library and the extra that brings it.
        """

    def is_quick(self, options: Any) -> bool:
        """Return whether an item is decoded before it could be handed to another process."""
        return False

    def claims(self, part: Readable) -> bool:
        """Return whether a file is of this kind, though its suffix is more often of another.

        Raises:
            DecodeError: it cannot be read.
        """
        return False

    def measured(
        self, options: Any, given: Mapping[str, Any], parts: Iterable[Readable]
    ) -> tuple[Any, Mapping[str, Any]]:
        """Fill in the options that depend on the data.

        Args:
            options: with defaults where nothing was given.
            given: what was given, by name.
            parts: all items that have the modality, in order.

        Returns:
            The options; and those of them that a shape does not tell, to be stored with the data.
        """
        return options, {}

    def sizes(self, shape: tuple[int, ...]) -> Mapping[str, Any]:
        """Return the options that the shape of an example tells."""
        return {}

    @abstractmethod
    def example(self, options: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return dtype and shape of one decoded item."""

    @abstractmethod
    def decode(self, source: bytes, options: Any) -> Array:
        """Decode one item to the dtype and shape of ``example``.

        Raises:
            DecodeError: the bytes are something else, damaged, empty or unreasonably large; one
                line that does not name the file, which the caller knows.
        """

    @abstractmethod
    def draw(self, item: Array, fonts: Fonts) -> "Image":
        """Draw a decoded item as a tile, ``drawing.tile_size`` large."""


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
