"""Normalisation of class names.

Unicode can encode the same text in several ways. For example, "é" can be one character or two
characters, and macOS stores two characters in file names. Class names are converted to the composed
form (NFC). A folder then gives the same classes wherever it is copied, and no class can be in
training with one spelling and in evaluation with another.
"""

from collections.abc import Iterable
from unicodedata import normalize

_JOINERS = {"\u200c": "", "\u200d": ""}
"""Invisible characters that belong to the spelling of Persian, Indic scripts and some emoji."""
_WITHOUT_JOINERS = str.maketrans(_JOINERS)


def composed(name: str) -> str:
    """Return the name in NFC."""
    return normalize("NFC", name)


def is_printable(name: str) -> bool:
    """Return whether a name can be printed on one line; joiners are allowed."""
    return name.translate(_WITHOUT_JOINERS).isprintable()


def plain(name: str) -> str:
    """Return a name without differences in case, white space and compatibility characters."""
    return " ".join(normalize("NFKC", name).casefold().split())


def find_twins(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs (first, other) of different names that ``plain`` maps to the same text."""
    first: dict[str, str] = {}
    pairs = ((first.setdefault(plain(name), name), name) for name in dict.fromkeys(names))
    return [(known, name) for known, name in pairs if known != name]
