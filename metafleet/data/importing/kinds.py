"""Choose the decoder for a part by its suffix, its column's name and its content."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from metafleet.data.decoding.registry import DECODERS, get_decoder, is_own
from metafleet.data.importing.part import Part
from metafleet.errors import ConfigError, DataMissingError, DecodeError


class Kinds:
    """The kinds that a folder's files may have, which are the built-in kinds and the user's own.

    Args:
        own: names of imported kinds, "package.module:Class"; other names are ignored. If such a
            kind reads the same suffix as a built-in kind, the user's kind takes precedence.

    Raises:
        ConfigError: two kinds have the same short name.
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
        """Return the kind with that short or full name; "" if there is none."""
        return name if name in self._decoders else self._by_name.get(name, "")

    def joins_columns(self, name: str) -> bool:
        """Return whether the kind with that name is made of several columns of numbers."""
        kind = self.find(name)
        return kind != "" and self._decoders[kind].joins_columns

    def called(self, kind: str) -> str:
        """Return the short name of a kind; "" for ""."""
        return self._decoders[kind].short_name if kind else ""

    def rank(self, kind: str) -> int:
        """Return the position of a kind in the order of modalities."""
        return list(self._decoders).index(kind)

    def of_name(self, name: str) -> tuple[str, ...]:
        """Return the kinds that a file with this name may have, most likely first."""
        suffix = PurePosixPath(name).suffix.lower()
        return tuple(kind for kind, d in self._decoders.items() if suffix in d.suffixes)

    def of_part(self, part: Part, *, hint: str = "") -> str:
        """Return the kind of a part, or "" if no kind reads it.

        If the kind called ``hint`` reads the part, this kind is returned. Otherwise, several kinds
        may read files with the part's suffix. If some of these kinds claim the file because of its
        content, the first of them is returned. If no kind claims the file, the kind that is most
        likely for the suffix is returned. A built-in kind never claims a file that a user-defined
        kind may read.

        Raises:
            DataError: the user's class raised an error.
        """
        kinds, hinted = self.of_name(part.name), self.find(hint)
        if hinted in kinds:
            return hinted
        if not kinds:
            return ""
        others = [kind for kind in kinds[1:] if is_own(kind) or not is_own(kinds[0])]
        return next((kind for kind in others if self._claims(kind, part)), kinds[0])

    def suffixes(self) -> str:
        """Return the suffixes that can be read, for messages."""
        return ", ".join(sorted({suffix for d in self._decoders.values() for suffix in d.suffixes}))

    def majority(self, kinds: Sequence[str]) -> str:
        """Return the most frequent kind, on a tie the first; "" if there is none."""
        return max(self._decoders, key=kinds.count) if any(kinds) else ""

    def _claims(self, kind: str, part: Part) -> bool:
        try:
            return self._decoders[kind].claims(part)
        except (OSError, DecodeError, DataMissingError):  # decoding will report what is wrong
            return False
