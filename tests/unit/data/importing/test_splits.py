from pathlib import Path

from metafleet.data.importing.item import Item
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.splits import assign_splits, check_splits, hashed
from metafleet.episode import META_TEST, META_TRAIN, META_VAL, SPLITS
from tests.unit.data.importing.conftest import Examine
from tests.unit.data.importing.folders import class_folders

NAMES = [f"class {number}" for number in range(1000)]
SHARES = (0.5, 0.2, 0.3)


def test_a_class_stays_in_its_split_whatever_others_come() -> None:
    alone = {name: hashed(name, 7, SHARES) for name in NAMES[:100]}
    items = [Item("", name, {}) for name in NAMES]

    splits, _ = assign_splits(
        items, FolderOptions(split_seed=7, split_fractions=SHARES), ProblemLog()
    )

    assert {name: splits[name] for name in NAMES[:100]} == alone


def test_splits_get_about_their_shares_and_another_seed_another_split() -> None:
    found = [[hashed(name, seed, SHARES) for name in NAMES] for seed in (1, 2)]

    for splits in found:
        counts = [splits.count(split) / len(NAMES) for split in SPLITS]
        assert all(abs(n - share) < 0.05 for n, share in zip(counts, SHARES, strict=True))
    assert sum(a != b for a, b in zip(*found, strict=True)) > 300


def test_the_seed_that_is_proposed_gives_every_split_classes(
    tmp_path: Path, examine: Examine
) -> None:
    folder = class_folders(tmp_path / "folder", items=2)
    refused = examine(folder, split_seed=0)
    (problem,) = refused.problems
    seed = int(problem.message.rsplit("--seed ", 1)[1])

    found = examine(folder, split_seed=seed)

    assert not found.problems
    assert set(found.splits.values()) == set(SPLITS)


def test_validation_is_a_share_of_training_where_none_is_given() -> None:
    items = [Item("", name, {}, META_TRAIN) for name in NAMES[:100]]
    items += [Item("", name, {}, META_TEST) for name in NAMES[100:120]]

    splits, notes = assign_splits(items, FolderOptions(), ProblemLog())
    none, _ = assign_splits(items, FolderOptions(split_fractions=(0.7, 0.0, 0.3)), ProblemLog())

    assert 10 < list(splits.values()).count(META_VAL) < 40
    assert all(splits[name] == META_TEST for name in NAMES[100:120])
    assert any("meta_val" in note for note in notes)
    assert META_VAL not in none.values()


def test_a_split_given_for_some_items_of_a_class_is_that_of_all() -> None:
    items = [Item("", "a", {}, META_TRAIN), Item("", "a", {}), Item("", "b", {}, META_TEST)]

    splits, _ = assign_splits(items, FolderOptions(split="given"), ProblemLog())

    assert splits["a"] in (META_TRAIN, META_VAL) and splits["b"] == META_TEST


def test_hashing_passes_over_what_the_folder_says() -> None:
    items = [Item("", name, {}, META_TRAIN) for name in NAMES] + [Item("", "x", {}, META_TEST)]
    log = ProblemLog()

    splits, _ = assign_splits(items, FolderOptions(split="hashed"), log)
    check_splits(splits, FolderOptions(split="hashed"), log)

    assert set(splits.values()) == set(SPLITS) and not len(log)
