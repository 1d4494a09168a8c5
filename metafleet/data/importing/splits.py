"""Which split a class is in: as the folder says, or by a hash of its name.

A hashed class stays where it is whatever other classes come or go: sha256 of seed and name, as a
number in [0, 1), falls into the share of one split.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from metafleet.data.importing.item import Item
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.problems import ProblemLog
from metafleet.episode import META_TEST, META_TRAIN, META_VAL, SPLITS

_SEEDS_TRIED = 1000
_FEWEST = 2


def assign_splits(
    items: Sequence[Item], ask: FolderOptions, log: ProblemLog
) -> tuple[dict[str, str], list[str]]:
    """Return class -> split of all classes that have one, and what was decided."""
    given = _given(items)
    is_given = len({split for splits in given.values() for split in splits}) > 1
    if ask.split == "hashed" or (ask.split == "auto" and not is_given):
        shares = ", ".join(f"{share:g}" for share in ask.split_fractions)
        note = f"splits: by a hash of the class's name, seed {ask.split_seed}, shares {shares}"
        return {c: hashed(c, ask.split_seed, ask.split_fractions) for c in given}, [note]
    if not any(given.values()):
        log.add_fatal(
            "unknown-split",
            "split",
            "no folder, file or column says the split; name a column with --split-column, "
            "or hash with --split hashed",
        )
        return {}, []
    splits = {c: _only(c, found, log) for c, found in given.items()}
    known = {c: split for c, split in splits.items() if split}
    notes = ["splits: as the folder gives them"]
    if META_VAL not in known.values() and ask.split_fractions[1] > 0.0:
        known = _with_validation(known, ask)
        notes.append("meta_val: a share of meta_train's classes, by a hash of their names")
    return known, notes


def hashed(label: str, seed: int, fractions: Sequence[float]) -> str:
    """Return the split of a class: a function of these three and nothing else."""
    digest = hashlib.sha256(f"{seed}\0{label}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    end = 0.0
    for split, share in zip(SPLITS, fractions, strict=True):
        end += share
        if place < end:
            return split
    return META_TEST  # the shares' sum may be a hair below 1


def check_splits(splits: Mapping[str, str], ask: FolderOptions, log: ProblemLog) -> None:
    """Note splits with too few classes to make an episode of."""
    counts = {split: list(splits.values()).count(split) for split in SPLITS}
    if ask.split_fractions[1] == 0.0 and not counts[META_VAL]:
        del counts[META_VAL]
    small = {split: n for split, n in counts.items() if n < _FEWEST}
    if not small:
        return
    better = _better_seed(splits, ask) if ask.split != "given" else None
    advice = "add classes, or hash other shares with --fractions"
    if better is not None:
        advice = f"they are evenly hashed with --split hashed --seed {better}"
    for split, n in small.items():
        log.add_fatal(
            "small-split", split, f"has {n} of {len(splits)} classes; expected 2 or more: {advice}"
        )


def _given(items: Iterable[Item]) -> dict[str, dict[str, int]]:
    """Return class -> split -> items, of the items that have a split."""
    given: dict[str, dict[str, int]] = {}
    for item in items:
        found = given.setdefault(item.label, {})
        if item.split:
            found[item.split] = found.get(item.split, 0) + 1
    return given


def _only(label: str, found: Mapping[str, int], log: ProblemLog) -> str:
    if len(found) == 1:
        return next(iter(found))
    if found:
        counts = ", ".join(f"{n} in {split}" for split, n in sorted(found.items()))
        log.add(
            "label-in-two-splits",
            f"class {label!r}",
            f"has items in several, {counts}; a class is learned or judged, never both: rename it, "
            "or split anew with --split hashed",
        )
    else:
        log.add("unknown-split", f"class {label!r}", "has no item that says its split; say it")
    return ""


def _with_validation(known: Mapping[str, str], ask: FolderOptions) -> dict[str, str]:
    train, val, _ = ask.split_fractions
    shares = (train / (train + val), val / (train + val), 0.0)
    return {
        c: hashed(c, ask.split_seed, shares) if split == META_TRAIN else split
        for c, split in known.items()
    }


def _better_seed(splits: Iterable[str], ask: FolderOptions) -> int | None:
    """Find a seed that gives every split nearly its share of these classes."""
    names = list(splits)
    wanted = [max(_FEWEST, int(0.8 * share * len(names))) for share in ask.split_fractions]
    wanted = [n if share else 0 for n, share in zip(wanted, ask.split_fractions, strict=True)]
    for seed in range(_SEEDS_TRIED):
        found = [hashed(name, seed, ask.split_fractions) for name in names]
        counts = [found.count(split) for split in SPLITS]
        if all(n >= fewest for n, fewest in zip(counts, wanted, strict=True)):
            return seed
    return None
