"""The labels of an item as one text: "cat;dog" with the separator ";"."""

from collections.abc import Iterable
from typing import Final

_SEPARATORS: Final = (";", "|")


def labels_in(text: str, separator: str) -> tuple[str, ...]:
    """Return the labels of an item; without a separator, the whole text is one label.

    Args:
        text: the labels, joined by the separator.
        separator: text between labels; "" if an item has one class.
    """
    if not separator:
        return (text,)
    return tuple(label.strip() for label in text.split(separator))


def label_text(labels: Iterable[str], separator: str) -> str:
    """Join labels to one text, sorted and without duplicates."""
    return separator.join(sorted(set(labels) - {""}))


def say_joined(names: Iterable[str], advice: str) -> list[str]:
    """Return a note if at least half of the class names look like several labels in one.

    This is the case if these names contain the same separator, and if at least one of the parts
    between the separators occurs more than once.

    Args:
        names: the names of classes.
        advice: end of the note, in which "{separator}" stands for the separator.
    """
    classes = set(names)
    for separator in _SEPARATORS:
        joined = [name for name in classes if separator in name]
        labels = [label for name in joined for label in labels_in(name, separator)]
        if 2 * len(joined) >= len(classes) and len(set(labels)) < len(labels):
            return [
                f"{len(joined)} of {len(classes)} class names hold {separator!r}, such as "
                f"{min(joined)!r:.60}; {advice.format(separator=separator)}"
            ]
    return []
