"""What a part is: which decoder reads it, by its suffix, its column's name and its content."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from metafleet.data.decoding.registry import DECODERS, get_decoder, is_own
from metafleet.data.importing.part import Part
from metafleet.errors import ConfigError, DataMissingError, DecodeError


class Kinds:
    """The kinds that a folder's files may have: the built-in ones, and the user's own.

    Args:
        own: kinds named "package.module:Class", which were imported; others among them are ignored.
            They go before built-in ones that read the same suffix.

    Raises:
        ConfigError: two have one short name.
    """

    def __init__(self, own: Iterable[str] = ()) -> None:
        own = dict.fromkeys(filter(is_own, own))
        self._decoders = {kind: get_decoder(kind) for kind in (*own, *DECODERS)}
        self._by_name = {d.short_name: kind for kind, d in self._decoders.items()}
        for kind, decoder in self._decoders.items():
            other = self._by_name[decoder.short_name]
            if other != kind:
                raise ConfigError(
                    f"kinds {kind!r} and {other!r} are both called {decoder.short_name!r}; give "
                    "the class another `kind`"
                )

    def find(self, name: str) -> str:
        """Return the kind of that name, short or in full; "" for none."""
        return name if name in self._decoders else self._by_name.get(name, "")

    def joins_columns(self, name: str) -> bool:
        """Return whether columns of numbers make an item of the kind of that name, if any."""
        kind = self.find(name)
        return kind != "" and self._decoders[kind].joins_columns

    def called(self, kind: str) -> str:
        """Return the short name of a kind; "" of none."""
        return self._decoders[kind].short_name if kind else ""

    def rank(self, kind: str) -> int:
        """Return the place of a kind in the order of modalities."""
        return list(self._decoders).index(kind)

    def of_name(self, name: str) -> tuple[str, ...]:
        """Return the kinds that a file of this name may have, the likeliest first."""
        suffix = PurePosixPath(name).suffix.lower()
        return tuple(kind for kind, d in self._decoders.items() if suffix in d.suffixes)

    def of_part(self, part: Part, *, hint: str = "") -> str:
        """Return the kind of a part: that called ``hint`` if it reads the part; "" for none.

        Without a hint, where files of a suffix may be of several kinds, it is the first that claims
        the file by what is in it, or else the likeliest one. Built-in kinds claim nothing that may
        be of one of the user's own.

        Raises:
            DataError: the user's own class failed.
        """
        kinds, hinted = self.of_name(part.name), self.find(hint)
        if hinted in kinds:
            return hinted
        if not kinds:
            return ""
        others = [kind for kind in kinds[1:] if is_own(kind) or not is_own(kinds[0])]
        return next((kind for kind in others if self._claims(kind, part)), kinds[0])

    def suffixes(self) -> str:
        """Say which suffixes can be read."""
        return ", ".join(sorted({suffix for d in self._decoders.values() for suffix in d.suffixes}))

    def majority(self, kinds: Sequence[str]) -> str:
        """Return the most frequent kind, the first among equals; "" of none."""
        return max(self._decoders, key=kinds.count) if any(kinds) else ""

    def _claims(self, kind: str, part: Part) -> bool:
        try:
            return self._decoders[kind].claims(part)
        except (OSError, DecodeError, DataMissingError):  # decoding it will say what is wrong
            return False
