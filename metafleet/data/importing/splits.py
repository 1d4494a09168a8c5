"""Assign classes to splits: as given by the folder, or by a hash of the class name.

For the hash, classes are sorted by the sha256 of seed and name, and the sorted list is cut at the
shares. The shares are therefore exact even with few classes. When classes are added or removed,
only classes next to a cut change splits.
"""

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from fractions import Fraction

from metafleet.data.importing.item import Item
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.problems import ProblemLog
from metafleet.episode import META_TRAIN, META_VAL, SPLITS

_FEWEST = 2
_DECIMALS = range(2, 7)
"""Numbers of decimals to try for proposed shares: hundredths cannot cut 51 classes in three."""


def assign_splits(
    items: Sequence[Item], ask: FolderOptions, log: ProblemLog, *, large: Set[str]
) -> tuple[dict[str, str], list[str]]:
    """Return class -> split for all classes that have a split, and notes on the decisions.

    The hash chooses splits only for the classes in ``large``. The shares are shares of these
    classes.
    """
    given = _given(items)
    is_given = len({split for splits in given.values() for split in splits}) > 1
    if ask.split == "hashed" or (ask.split == "auto" and not is_given):
        shares = ", ".join(f"{share:g}" for share in ask.split_fractions)
        note = f"splits: by a hash of the class's name, seed {ask.split_seed}, shares {shares}"
        return hashed(large, ask.split_seed, ask.split_fractions), [note]
    if not any(given.values()):
        log.add_fatal(
            "unknown-split",
            "split",
            "no folder, file or column says the split; name a column with --split-column, "
            "or hash with --split hashed",
        )
        return {}, []
    if _are_all_in_several(given, log):
        return {}, []
    splits = {c: _only(c, found, log) for c, found in given.items()}
    known = {c: split for c, split in splits.items() if split}
    notes = ["splits: as the folder gives them"]
    has_val = any(META_VAL in found for found in given.values())
    if not has_val and ask.split_fractions[1] > 0.0:
        known |= _with_validation({c: s for c, s in known.items() if c in large}, ask)
        notes.append("meta_val: a share of meta_train's classes, by a hash of their names")
    return known, notes


def large_classes(
    labels: Sequence[str],
    ask: FolderOptions,
    log: ProblemLog,
    *,
    among: Iterable[str] | None = None,
    why: str = " without fault",
) -> set[str]:
    """Return the classes with at least ``ask.min_items`` items; log the others.

    Args:
        labels: the class of each item.
        ask: options that say how to use the folder.
        log: log to which a problem is added for each smaller class.
        among: the classes to consider; None for all classes in ``labels``.
        why: text that messages add after the number of items.
    """
    counts = Counter(labels)
    classes = list(counts) if among is None else list(among)
    for label in classes:
        n = counts[label]
        if n < ask.min_items:
            log.add(
                "small-class",
                f"class {label!r}",
                f"has {n} item{'' if n == 1 else 's'}{why}; expected {ask.min_items} "
                "or more: add some, or lower --min-items",
            )
    return {label for label in classes if counts[label] >= ask.min_items}


def hashed(labels: Iterable[str], seed: int, fractions: Sequence[float]) -> dict[str, str]:
    """Return class -> split, which depends on these three arguments only."""
    ordered = sorted(set(labels), key=lambda label: (_hash(label, seed), label))
    counts = count_classes(len(ordered), fractions)
    ends = zip(SPLITS, counts, strict=True)
    return dict(zip(ordered, [split for split, n in ends for _ in range(n)], strict=True))


def _hash(label: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{label}".encode()).digest()


def count_classes(n_classes: int, fractions: Sequence[float]) -> list[int]:
    """Return the number of classes per split: its rounded share, but at least 2 if possible.

    Shares are rounded by largest remainders (Hamilton's method). If remainders are equal, the last
    split gets the class.
    """
    exact = [Fraction(str(share)) for share in fractions]  # 0.29 of 100 is 29, not 28.999
    shares = [share / sum(exact) * n_classes for share in exact]
    counts = [math.floor(share) for share in shares]
    places = range(len(shares))
    order = sorted(places, key=lambda i: (shares[i] - counts[i], i), reverse=True)
    for i in order[: n_classes - sum(counts)]:
        counts[i] += 1
    used = [i for i in places if fractions[i]]
    fewest = min(_FEWEST, n_classes // len(used))
    for i in used:
        while counts[i] < fewest:
            rich = [other for other in used if counts[other] > fewest]
            richest = max(rich, key=lambda other: counts[other] - shares[other])
            counts[richest] -= 1
            counts[i] += 1
    return counts


def shares_for(n_way: int, n_classes: int) -> tuple[float, float, float] | None:
    """Return shares that give each split ``n_way`` classes.

    If there are too few classes for three splits, the share of meta_val is 0. If there are too few
    classes for two splits as well, the result is None.

    Args:
        n_way: 2 or more.
        n_classes: total number of classes in all splits.
    """
    for n_small, decimals in itertools.product((2, 1), _DECIMALS):
        least = math.ceil(10**decimals * n_way / max(1, n_classes)) / 10**decimals
        shares = (round(1.0 - n_small * least, decimals), least if n_small == 2 else 0.0, least)
        if shares[0] > 0.0:
            counts = count_classes(n_classes, shares)
            if min(n for n, share in zip(counts, shares, strict=True) if share) >= n_way:
                return shares
    return None


def check_splits(
    splits: Mapping[str, str], ask: FolderOptions, log: ProblemLog, *, n_classes: int
) -> None:
    """Log splits with too few classes for an episode; ``n_classes`` is for the advice."""
    counts = {split: list(splits.values()).count(split) for split in SPLITS}
    if ask.split_fractions[1] == 0.0 and not counts[META_VAL]:
        del counts[META_VAL]
    small = {split: n for split, n in counts.items() if n < _FEWEST}
    is_told = not splits and any(problem.is_fatal for problem in log.all())
    if not small or is_told:
        return
    advice = _advice(n_classes, counts)
    for split, n in small.items():
        log.add_fatal(
            "small-split", split, f"has {n} of {len(splits)} classes; expected 2 or more: {advice}"
        )


def _advice(n_classes: int, counts: Mapping[str, int]) -> str:
    """Return advice on how to get enough classes into every split."""
    if n_classes >= _FEWEST * len(counts):  # hashing would give each split two
        return "add classes, or split them again with --split hashed"
    shares = shares_for(_FEWEST, n_classes)
    if shares is None:
        return f"add classes, {_FEWEST * 2} at the least"
    return f"add classes, or do without meta_val: --split hashed --fractions {written(shares)}"


def written(shares: Sequence[float]) -> str:
    """Return shares in the format of the option."""
    return ",".join(f"{share:g}" for share in shares)


def _given(items: Iterable[Item]) -> dict[str, dict[str, int]]:
    """Return class -> split -> number of items, for the items that have a split."""
    given: dict[str, dict[str, int]] = {}
    for item in items:
        found = given.setdefault(item.label, {})
        if item.split:
            found[item.split] = found.get(item.split, 0) + 1
    return given


def _are_all_in_several(given: Mapping[str, Mapping[str, int]], log: ProblemLog) -> bool:
    """Return whether the folder splits items instead of classes; log that as one problem."""
    if len(given) < _FEWEST or any(len(found) < _FEWEST for found in given.values()):
        return False
    label, found = next(iter(given.items()))
    counts = ", ".join(f"{n} in {split}" for split, n in sorted(found.items()))
    log.add_fatal(
        "label-in-two-splits",
        "split",
        f"all {len(given)} classes have items in several splits, such as {label!r} ({counts}); a "
        "class is learned or judged, never both: split again with --split hashed",
    )
    return True


def _only(label: str, found: Mapping[str, int], log: ProblemLog) -> str:
    if len(found) == 1:
        return next(iter(found))
    if found:
        counts = ", ".join(f"{n} in {split}" for split, n in sorted(found.items()))
        log.add(
            "label-in-two-splits",
            f"class {label!r}",
            f"has items in several splits, {counts}; a class is learned or judged, never both: "
            "rename it, or split again with --split hashed",
        )
    else:
        log.add("unknown-split", f"class {label!r}", "has no item that says its split; say it")
    return ""


def _with_validation(known: Mapping[str, str], ask: FolderOptions) -> dict[str, str]:
    train, val, _ = ask.split_fractions
    learned = [c for c, split in known.items() if split == META_TRAIN]
    return {**known, **hashed(learned, ask.split_seed, (train, val, 0.0))}
