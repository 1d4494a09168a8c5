"""Base class of decoders, which turn the bytes of a file or cell into an array of fixed shape.

A decoder is a pure function of bytes and options. It has no state, is safe in any thread and
process, and returns the same bits wherever the same versions of its libraries are installed. Before
it allocates memory, it checks the size that a header declares. A decoder also describes its kind of
data. Code outside ``metafleet.data.decoding`` asks the decoder for properties of the kind, and
never compares names of kinds.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from metafleet.data.decoding.drawing import Fonts
from metafleet.data.decoding.shown import Shown, png
from metafleet.errors import ConfigError, DataMissingError
from metafleet.seeds import CounterRng

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[Any]


class Readable(Protocol):
    """A file or cell that a decoder may inspect before decoding."""

    @property
    def name(self) -> str:
        """Return its name, with the suffix of its content."""
        ...

    def read(self) -> bytes:
        """Return the bytes of the file or cell.

        Raises:
            DecodeError: the file or cell cannot be read.
        """
        ...


class Decoder(ABC):
    """Reads and describes one kind of data.

    Attributes:
        kind: name of the kind. The table of the kind's options in ``[data]`` has the same name. If
            a modality is the only one of its kind, it has this name too.
        version: version of the decoder. Increment it when the same bytes and options give different
            numbers.
        suffixes: suffixes of the files that the decoder reads. Each suffix is in lower case and
            begins with a dot.
        Options: frozen dataclass with defaults for all fields; see ``metafleet.options``.
        default_encoder: name of the model that ``fusion`` uses for the kind.
        problem: text that describes what is wrong with an item that cannot be decoded. The problem
            is called "bad-<kind>".
        is_pixels: whether models get the stored bytes divided by 255.
        is_picture: whether an item is one picture, uint8 [channels, height, width]. A model may
            swap light and dark in pictures. If ``Options`` has a field ``range``, its value is a
            ``depth.Range``.
        is_text: whether an item is a text. An item of dtype uint8 holds UTF-8 bytes, padded with
            zeros. An item of another dtype holds features, for which ``fusion`` uses an adapter. If
            ``Options`` has a field ``max_bytes``, texts are truncated to this number of bytes.
        joins_columns: whether an item can be made of several numeric columns of a manifest.
            ``decode`` then gets the numbers joined by commas.
        is_in_every_recipe: whether the recipe of every prepared folder contains the kind's options,
            even if the user did not set them. This is True only for the kinds of the first version.
            If it were True for a newer kind, all folders would have to be prepared again.
        frame_kind: kind of the pictures along the first axis of an item; "" if there are none.
            Encoders of pictures of that kind can also encode such items.
        n_squares: width of an item's tile on a contact sheet, in squares.
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
    frame_kind: str = ""
    n_squares: int = 1

    @property
    def short_name(self) -> str:
        """Return the short name of the kind."""
        return self.kind

    def check(self, options: Any) -> None:  # noqa: B027 - most need nothing but numpy
        """Check that the libraries for decoding are installed.

        Raises:
            DataMissingError: a library is missing; the message names it and the extra that installs
                it.
        """

    def is_quick(self, options: Any) -> bool:
        """Return whether decoding an item is faster than sending it to another process."""
        return False

    def claims(self, part: Readable) -> bool:
        """Return whether a file is of this kind although its suffix usually means another kind.

        Raises:
            DecodeError: the file cannot be read.
        """
        return False

    def measured(
        self, options: Any, given: Mapping[str, Any], parts: Iterable[Readable]
    ) -> tuple[Any, Mapping[str, Any]]:
        """Fill in the options that depend on the data.

        Args:
            options: the options, with defaults for options that the user did not set.
            given: name -> value of the options that the user set.
            parts: the parts of all items that have the modality, in order.

        Returns:
            Two things: all options; and name -> value of the options that must be stored with the
            data because ``sizes`` cannot recover them.
        """
        return options, {}

    def sizes(self, shape: tuple[int, ...]) -> Mapping[str, Any]:
        """Return the options that follow from the shape of an example."""
        return {}

    @abstractmethod
    def example(self, options: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return dtype and shape of one decoded item."""

    @abstractmethod
    def decode(self, source: bytes, options: Any) -> Array:
        """Decode one item to the dtype and shape that ``example`` has.

        Raises:
            DecodeError: the bytes are of another kind, damaged, empty or unreasonably large. The
                message is one line; the caller adds the file's name.
        """

    def check_views(self, options: Any, *, flip: bool) -> None:
        """Check that ``view`` can draw views of items that were decoded with these options.

        Args:
            options: the options of the decoder.
            flip: whether views may be mirrored.

        Raises:
            ConfigError: there are no such views.
        """
        raise ConfigError(
            f"kind {self.short_name!r} has no augmented views; expected views = 1, as only "
            "pictures, clips and sounds have more"
        )

    def view(self, item: Array, options: Any, rng: CounterRng, *, flip: bool) -> Array:
        """Return an augmented copy of a decoded item, in the item's dtype and shape.

        The copy depends only on the arguments.
        """
        raise NotImplementedError

    @abstractmethod
    def draw(self, item: Array, fonts: Fonts) -> "Image":
        """Draw a decoded item as a tile of size ``drawing.tile_size``."""

    def show(self, item: Array, options: Mapping[str, Any], fonts: Fonts) -> Shown:
        """Return forms of a decoded item for a web page. By default, it is the tile of a sheet.

        Args:
            item: the item, in the dtype and shape that ``example`` has.
            options: the options of the decoder that are known, JSON values.
            fonts: fonts for ``draw``.
        """
        return Shown((png(self.draw(item, fonts)),))


def import_library(module: str, *, package: str, extra: str) -> Any:
    """Import an optional library.

    Raises:
        DataMissingError: the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataMissingError(
            f"reading these data needs {package} ({error}); run `pip install 'metafleet[{extra}]'`"
        ) from error
