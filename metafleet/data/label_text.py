"""The labels of an item as one text: "cat;dog" with the separator ";"."""

from collections.abc import Iterable


def labels_in(text: str, separator: str) -> tuple[str, ...]:
    """Return the labels of an item; without a separator, the text is the only one.

    Args:
        text: labels with the separator between them.
        separator: "" if an item has one class.
    """
    if not separator:
        return (text,)
    return tuple(label.strip() for label in text.split(separator))


def label_text(labels: Iterable[str], separator: str) -> str:
    """Return labels as one text, sorted, each once."""
    return separator.join(sorted(set(labels) - {""}))
