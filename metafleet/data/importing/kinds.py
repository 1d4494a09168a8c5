"""What a part is: which decoder reads it, by its suffix, its column's name and its content."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from metafleet.data.decoding import registry
from metafleet.data.importing.part import Part
from metafleet.errors import DataError

KINDS = tuple(registry.DECODERS)


def kinds_of(name: str) -> tuple[str, ...]:
    """Return the kinds that a file of this name may have, the likeliest first."""
    return registry.kinds_of(PurePosixPath(name).suffix)


def kind_of(part: Part, *, hint: str = "") -> str:
    """Return the kind of a part: ``hint`` if a decoder of that kind reads it; "" for none.

    Without a hint, where files of a suffix may be of several kinds, it is the first that claims the
    file by what is in it, or else the likeliest one.
    """
    kinds = kinds_of(part.name)
    if hint in kinds:
        return hint
    claiming = (kind for kind in kinds[1:] if _claims(kind, part))
    return next(claiming, (kinds or ("",))[0])


def known_suffixes() -> str:
    """Say which suffixes can be read."""
    decoders = registry.DECODERS.values()
    return ", ".join(sorted({suffix for decoder in decoders for suffix in decoder.suffixes}))


def majority(kinds: Sequence[str]) -> str:
    """Return the most frequent kind, the first of ``KINDS`` among equals; "" of none."""
    return max(KINDS, key=kinds.count) if any(kinds) else ""


def _claims(kind: str, part: Part) -> bool:
    try:
        return registry.DECODERS[kind].claims(part)
    except (OSError, DataError):  # decoding it will say what is wrong
        return False
