"""Labels and episodes of prepared data whose classes are sets of labels."""

from collections.abc import Mapping, Sequence

from metafleet.data.label_text import labels_in
from metafleet.episodes.items import ClassRows
from metafleet.episodes.labels import LabelSets


def labels_of(sets: Sequence[str], separator: str) -> list[str]:
    """Return the labels that occur in sets of labels, sorted."""
    return sorted({label for text in sets for label in labels_in(text, separator)})


def label_sets(sets: Sequence[str], rows: Mapping[str, ClassRows], separator: str) -> LabelSets:
    """Return the rows of each set of labels, in the order of the rows.

    Args:
        sets: the sets of labels of a split.
        rows: set -> its rows.
        separator: the text between the labels of a set.
    """
    ordered = sorted((text for text in sets if rows[text].count), key=lambda it: rows[it].start)
    return LabelSets([(rows[text], frozenset(labels_in(text, separator))) for text in ordered])
