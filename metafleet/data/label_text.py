"""The labels of an item as one text: "cat;dog" with the separator ";"."""

from collections.abc import Iterable


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
