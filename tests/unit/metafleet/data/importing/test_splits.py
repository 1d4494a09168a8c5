from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metafleet.data.importing.item import Item
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.splits import (
    assign_splits,
    check_splits,
    count_classes,
    hashed,
    shares_for,
)
from metafleet.episode import META_TEST, META_TRAIN, META_VAL, SPLITS

NAMES = [f"class {number}" for number in range(1000)]
SHARES = (0.5, 0.2, 0.3)


def assign(
    items: Sequence[Item], *, small: Sequence[str] = (), **options: object
) -> tuple[dict[str, str], list[str], ProblemLog]:
    log = ProblemLog()
    ask = FolderOptions(**options)  # type: ignore[arg-type]
    splits, notes = assign_splits(items, ask, log, large={i.label for i in items} - {*small})
    return splits, notes, log


def test_classes_that_come_move_none_but_those_next_to_a_cut() -> None:
    before = hashed(NAMES[:100], 7, SHARES)
    after = hashed(NAMES[:101], 7, SHARES)

    moved = [name for name in before if before[name] != after[name]]

    assert len(moved) <= 2 and set(before.values()) == set(SPLITS)
    assert hashed(reversed(NAMES), 7, SHARES) == hashed(NAMES, 7, SHARES)


def test_splits_have_their_shares_and_another_seed_another_split() -> None:
    found = [hashed(NAMES, seed, SHARES) for seed in (1, 2)]

    for splits in found:
        assert [list(splits.values()).count(split) for split in SPLITS] == [500, 200, 300]
    assert sum(found[0][name] != found[1][name] for name in NAMES) > 300


@pytest.mark.parametrize(
    ("n_classes", "fractions", "counts"),
    [
        (12, (0.6, 0.2, 0.2), [7, 2, 3]),
        (100, (0.29, 0.42, 0.29), [29, 42, 29]),
        (10, (0.64, 0.12, 0.24), [6, 2, 2]),
        (25, (0.9, 0.05, 0.05), [21, 2, 2]),
        (6, (0.6, 0.2, 0.2), [2, 2, 2]),
        (5, (0.6, 0.0, 0.4), [3, 0, 2]),
        (4, (0.8, 0.1, 0.1), [2, 1, 1]),
        (3, (0.98, 0.01, 0.01), [1, 1, 1]),
        (1, (0.6, 0.2, 0.2), [1, 0, 0]),
        (0, (0.6, 0.2, 0.2), [0, 0, 0]),
    ],
)
def test_few_classes_are_split_as_near_to_the_shares_as_can_be(
    n_classes: int, fractions: Sequence[float], counts: list[int]
) -> None:
    assert count_classes(n_classes, fractions) == counts


@given(
    st.integers(0, 300),
    st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3),
)
def test_no_split_is_further_from_its_share_than_rounding_and_two_classes_ask(
    n_classes: int, weights: list[float]
) -> None:
    fractions = [weight / sum(weights) for weight in weights]

    counts = count_classes(n_classes, fractions)

    assert sum(counts) == n_classes
    assert min(counts) >= min(2, n_classes // 3)
    if min(counts) > 2:
        assert all(abs(n - s * n_classes) < 1.001 for n, s in zip(counts, fractions, strict=True))


@pytest.mark.parametrize(
    ("n_way", "n_classes", "shares"),
    [
        (5, 15, (0.32, 0.34, 0.34)),
        (17, 51, (0.332, 0.334, 0.334)),
        (5, 12, (0.58, 0.0, 0.42)),
        (5, 9, None),
        (2, 0, None),
    ],
)
def test_shares_are_found_that_give_every_split_so_many_classes(
    n_way: int, n_classes: int, shares: tuple[float, ...] | None
) -> None:
    assert shares_for(n_way, n_classes) == shares


@given(n_way=st.integers(2, 300), more=st.integers(0, 900))
def test_validation_is_done_without_only_where_there_are_too_few_classes(
    n_way: int, more: int
) -> None:
    n_classes = 2 * n_way + more

    shares = shares_for(n_way, n_classes)

    assert shares is not None and abs(sum(shares) - 1.0) < 1e-6
    counts = count_classes(n_classes, shares)
    assert min(counts[0], counts[2]) >= n_way
    assert counts[1] >= n_way if n_classes >= 3 * n_way else shares[1] == 0.0


@pytest.mark.parametrize(
    ("n_classes", "advice"),
    [
        (3, "add classes, 4 at the least"),
        (5, "do without meta_val: --split hashed --fractions 0.6,0,0.4"),
    ],
)
def test_splits_of_too_few_classes_are_reported_with_what_helps(
    n_classes: int, advice: str
) -> None:
    log = ProblemLog()
    ask = FolderOptions()

    check_splits(hashed(NAMES[:n_classes], 0, ask.split_fractions), ask, log, n_classes=n_classes)

    assert all(p.message.endswith(advice) and p.is_fatal for p in log.all()) and len(log)


def test_validation_is_a_share_of_training_where_none_is_given() -> None:
    items = [Item("", name, {}, META_TRAIN) for name in NAMES[:100]]
    items += [Item("", name, {}, META_TEST) for name in NAMES[100:120]]

    splits, notes, _ = assign(items)
    none, _, _ = assign(items, split_fractions=(0.7, 0.0, 0.3))

    assert 10 < list(splits.values()).count(META_VAL) < 40
    assert all(splits[name] == META_TEST for name in NAMES[100:120])
    assert any("meta_val" in note for note in notes)
    assert META_VAL not in none.values()


def test_a_split_given_for_some_items_of_a_class_is_that_of_all() -> None:
    items = [Item("", "a", {}, META_TRAIN), Item("", "a", {}), Item("", "b", {}, META_TEST)]

    splits, _, _ = assign(items, split="given")

    assert splits["a"] in (META_TRAIN, META_VAL) and splits["b"] == META_TEST


def test_splits_of_items_are_one_line_that_says_the_way_out() -> None:
    items = [
        Item(f"{label}{i}", label, {}, split=split)
        for label in NAMES[:15]
        for i, split in enumerate((META_TRAIN, META_VAL, META_TEST))
    ]

    splits, notes, log = assign(items)
    check_splits(splits, FolderOptions(), log, n_classes=15)

    (problem,) = log.all()
    assert problem.is_fatal and splits == {} and notes == []
    assert "all 15 classes have items in several splits, such as 'class 0' (1 in" in problem.message
    assert problem.message.endswith("split again with --split hashed")
    assert len(assign(items, split="hashed")[0]) == 15


def test_hashing_passes_over_what_the_folder_says() -> None:
    items = [Item("", name, {}, META_TRAIN) for name in NAMES] + [Item("", "x", {}, META_TEST)]

    splits, _, log = assign(items, split="hashed")
    check_splits(splits, FolderOptions(split="hashed"), log, n_classes=len(splits))

    assert set(splits.values()) == set(SPLITS) and not len(log)


def test_shares_are_of_the_classes_that_are_large_enough() -> None:
    items = [Item("", name, {}) for name in NAMES[:16]]

    splits, _, _ = assign(items, small=NAMES[:6])

    assert set(splits) == set(NAMES[6:16])
    assert [list(splits.values()).count(split) for split in SPLITS] == [6, 2, 2]
