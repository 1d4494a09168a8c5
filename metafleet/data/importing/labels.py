"""Items with several labels, which are one text with a separator in the label column."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from metafleet.data.importing.class_names import composed
from metafleet.data.importing.item import Item
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.splits import assign_splits, large_classes
from metafleet.data.label_text import label_text, labels_in
from metafleet.episode import SPLITS


def tidied(item: Item, separator: str, log: ProblemLog) -> Item:
    """Return an item with its labels in NFC, sorted and without duplicates.

    An empty label is logged as a problem of the item.
    """
    labels = labels_in(item.label, separator)
    if not all(labels):
        log.add(
            "empty-label",
            item.where,
            f"{item.label!r} has an empty label next to {separator!r}; name it, or take the "
            "separator out",
        )
    return replace(item, label=label_text(map(composed, labels), separator))


def with_each_label(items: Iterable[Item], separator: str) -> list[Item]:
    """Return every item once for each of its labels."""
    return [
        replace(item, label=label) for item in items for label in labels_in(item.label, separator)
    ]


def sort_by_labels(
    items: Mapping[int, Item], ask: FolderOptions, log: ProblemLog
) -> tuple[dict[int, Item], dict[str, str], list[str]]:
    """Assign labels to splits, and items to the splits of their labels.

    The splits have the order meta_train, meta_val, meta_test. An item goes to the last split that
    has any of the item's labels, and keeps only its labels of that split. Meta-training therefore
    sees no item with a label that is used in evaluation.

    Args:
        items: number -> item, for items without problems.
        ask: options that say how to use the folder.
        log: log to which a problem is added for each label with too few items.

    Returns:
        Three things: number -> item with the labels that it keeps, sorted by these labels; label ->
        split; notes.
    """
    separator = ask.label_separator
    apart = with_each_label(items.values(), separator)
    large = large_classes([item.label for item in apart], ask, log)
    splits, notes = assign_splits(apart, ask, log, large=large)
    splits = {label: split for label, split in splits.items() if label in large}
    kept = _in_last_split(items, splits, separator)
    few = splits.keys() - large_classes(
        [item.label for item in with_each_label(kept.values(), separator)],
        ask,
        log,
        among=splits,
        why=" left in its split, since an item goes to the last split of its labels",
    )
    splits = {label: split for label, split in splits.items() if label not in few}
    kept = _in_last_split(kept, splits, separator)
    shared = Counter(len(labels_in(item.label, separator)) for item in kept.values())
    several = sum(n for n_labels, n in shared.items() if n_labels > 1)
    notes.append(
        f"labels: separated by {separator!r}; {several} of {len(kept)} items have several labels "
        "of their split"
    )
    in_order = sorted(kept, key=lambda number: (kept[number].label, number))
    return {number: kept[number] for number in in_order}, splits, notes


def _in_last_split(
    items: Mapping[int, Item], splits: Mapping[str, str], separator: str
) -> dict[int, Item]:
    kept = {}
    for number, item in items.items():
        labels = [label for label in labels_in(item.label, separator) if label in splits]
        if labels:
            last = max((splits[label] for label in labels), key=SPLITS.index)
            own = (label for label in labels if splits[label] == last)
            kept[number] = replace(item, label=label_text(own, separator))
    return kept
