"""What a part is: which decoder reads it, by its suffix, its column's name and its frames."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from metafleet.data.decoding import registry
from metafleet.data.decoding.video import count_frames
from metafleet.data.importing.part import Part
from metafleet.errors import DataError

KINDS = tuple(registry.DECODERS)
_STILL_OR_MOVING = ("image", "video")


def kinds_of(name: str) -> tuple[str, ...]:
    """Return the kinds that a file of this name may have, the likeliest first."""
    return registry.kinds_of(PurePosixPath(name).suffix)


def kind_of(part: Part, *, hint: str = "") -> str:
    """Return the kind of a part: ``hint`` if a decoder of that kind reads it; "" for none.

    A GIF or WebP without a hint is a video when it has more than one frame.
    """
    kinds = kinds_of(part.name)
    if hint in kinds:
        return hint
    if kinds == _STILL_OR_MOVING and _is_moving(part):
        return "video"
    return (kinds or ("",))[0]


def known_suffixes() -> str:
    """Say which suffixes can be read."""
    decoders = registry.DECODERS.values()
    return ", ".join(sorted({suffix for decoder in decoders for suffix in decoder.suffixes}))


def majority(kinds: Sequence[str]) -> str:
    """Return the most frequent kind, the first of ``KINDS`` among equals; "" of none."""
    return max(KINDS, key=kinds.count) if any(kinds) else ""


def _is_moving(part: Part) -> bool:
    try:
        return count_frames(part.read()) > 1
    except (OSError, DataError):  # decoding it will say what is wrong
        return False
