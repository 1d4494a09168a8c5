"""When two names mean one class.

One text can be written in several ways: "é" as one character or as two, which is what macOS stores
in file names. Classes are called by the composed form (NFC), so that a folder is the same wherever
it was copied to, and no class is learned under one spelling and judged under another.
"""

from collections.abc import Iterable
from unicodedata import normalize

_JOINERS = {"\u200c": "", "\u200d": ""}
"""Invisible, and part of the spelling: in Persian, in Indic scripts, between emoji."""
_WITHOUT_JOINERS = str.maketrans(_JOINERS)


def composed(name: str) -> str:
    """Return the name in NFC."""
    return normalize("NFC", name)


def is_printable(name: str) -> bool:
    """Tell whether a name can be shown in one line; joiners between characters can."""
    return name.translate(_WITHOUT_JOINERS).isprintable()


def plain(name: str) -> str:
    """Return what is left of a name without case, spaces around and between, and compatibility."""
    return " ".join(normalize("NFKC", name).casefold().split())


def find_twins(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of different names that are alike by ``plain``, each with the first of them."""
    first: dict[str, str] = {}
    pairs = ((first.setdefault(plain(name), name), name) for name in dict.fromkeys(names))
    return [(known, name) for known, name in pairs if known != name]
