"""Tables with several labels an item: what is read, how it is split, and what is refused."""

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from metafleet.data.importing.importer import import_folder
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.problems import DataProblem
from metafleet.data.registry import open_data, pin
from metafleet.episode import SPLITS, EpisodeShape
from metafleet.episodes.labels import LabelEpisodeSource
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng
from tests.unit.metafleet.data.importing.conftest import Check

GIVEN = {
    "train": ("a;b", "a", "b", "a", "b", "b;a"),
    "val": ("c;d", "c", "d", "d"),
    "test": ("e", "e;f", "f", "f;f", "e"),
}


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def given(path: Path) -> Path:
    """Write a table in which no label is in two splits, but for one of an item of the test."""
    rows = [
        {"text": f"{split} {number}", "labels": labels, "split": split}
        for split, texts in GIVEN.items()
        for number, labels in enumerate(texts)
    ]
    return write_table(path, rows)


def sampled(path: Path, n_items: int = 300) -> Path:
    rng = random.Random(5)
    names = [f"topic {number}" for number in range(12)]
    rows = [
        {"text": f"sentence {n}", "tags": "|".join(rng.sample(names, rng.randint(1, 3)))}
        for n in range(n_items)
    ]
    return write_table(path, rows)


def options(path: Path, **more: object) -> FolderOptions:
    asked = {"label_separator": ";", "min_items": 2} | more
    return FolderOptions(path=str(path), **asked)  # type: ignore[arg-type]


def problems_of(problems: Sequence[DataProblem]) -> list[str]:
    return [str(problem) for problem in problems]


def test_an_item_goes_to_the_last_split_of_its_labels(tmp_path: Path, check: Check) -> None:
    table = sampled(tmp_path / "t.csv")

    found = check(table, label="tags", label_separator="|")

    assert found.problems == ()
    split_of = {label: split for text, split in found.splits.items() for label in text.split("|")}
    assert len(split_of) == 12
    with table.open() as file:
        original = {row["text"]: set(row["tags"].split("|")) for row in csv.DictReader(file)}
    assert len(found.items) == len(original)
    for item in found.items:
        labels = original[item.parts["text"].read().decode()]
        last = max((split_of[label] for label in labels), key=SPLITS.index)
        assert set(item.label.split("|")) == {it for it in labels if split_of[it] == last}
        assert found.splits[item.label] == last
    assert [item.label for item in found.items] == sorted(item.label for item in found.items)
    several = sum("|" in item.label for item in found.items)
    assert f"labels: separated by '|'; {several} of 300 items have several labels" in str(
        found.notes
    )


def test_its_rows_are_those_of_its_items(tmp_path: Path, check: Check) -> None:
    found = check(sampled(tmp_path / "t.csv"), label="tags", label_separator="|")

    rows = range(len(found.items)) if found.rows is None else found.rows.tolist()
    for item, row in zip(found.items, rows, strict=True):
        held = bytes(found.decoded.arrays["text"][row]).rstrip(b"\0")
        assert held == item.parts["text"].read()


def test_imported_labels_are_drawn_with_what_their_items_hold(tmp_path: Path) -> None:
    table = sampled(tmp_path / "t.csv")
    report = import_folder(
        options(table, label="tags", label_separator="|"), tmp_path / "data", name="topics"
    )
    assert report.problems == ()
    asked = {"name": "folder", "imported": "topics"}
    assert pin(asked, tmp_path / "data")["label_separator"] == "|"
    data = open_data(asked, tmp_path / "data")
    source = data.open_source()
    assert isinstance(source, LabelEpisodeSource)
    with table.open() as file:
        original = {row["text"]: set(row["tags"].split("|")) for row in csv.DictReader(file)}

    summary = data.summarise()
    assert summary.nouns == ("label", "labels", "items")
    assert sum(split.classes for split in summary.splits.values()) == 12
    assert sum(split.items for split in summary.splits.values()) == 300
    for split in SPLITS:
        labels = summary.splits[split].class_items
        episode = source.sample(split, EpisodeShape(2, 2, 3), CounterRng(1, split))
        for one in (episode.support, episode.query):
            texts = [
                bytes(row.byte().tolist()).rstrip(b"\0").decode() for row in one.inputs["text"]
            ]
            columns = [
                {t for t, hot in zip(texts, one.targets[:, k].tolist(), strict=True) if hot}
                for k in range(2)
            ]
            for column in columns:
                fits = [la for la in labels if column == {t for t in texts if la in original[t]}]
                assert fits


def test_the_digest_knows_of_the_separator(tmp_path: Path) -> None:
    table = sampled(tmp_path / "t.csv")
    for name, separator in (("one", ""), ("several", "|")):
        asked = options(table, label="tags", label_separator=separator, min_items=1)
        asked_for = import_folder(asked, tmp_path / "data", name=name)
        assert asked_for.prepared is not None

    digests = {
        open_data({"name": "folder", "imported": name}, tmp_path / "data").digest()
        for name in ("one", "several")
    }

    assert len(digests) == 2


def test_given_splits_are_kept(tmp_path: Path, check: Check) -> None:
    found = check(given(tmp_path / "t.csv"), label_separator=";")

    assert found.problems == ()
    assert found.splits == {
        **dict.fromkeys(("a", "a;b", "b"), "meta_train"),
        **dict.fromkeys(("c", "c;d", "d"), "meta_val"),
        **dict.fromkeys(("e", "e;f", "f"), "meta_test"),
    }


def test_a_label_in_two_given_splits_is_refused(tmp_path: Path, check: Check) -> None:
    table = given(tmp_path / "t.csv")
    table.write_text(table.read_text() + "more,e;a,test\n")

    found = check(table, label_separator=";")

    assert problems_of(found.problems)[0] == (
        "class 'a': has items in several splits, 1 in meta_test, 4 in meta_train; a class is "
        "learned or judged, never both: rename it, or split again with --split hashed "
        "[label-in-two-splits]"
    )


def many(n_items: int = 96) -> list[dict[str, str]]:
    """Return rows of eight labels, each alone, and every sixth row of two."""
    names = "abcdefgh"
    others = (f"; {names[n // 7 % 8]}" if n % 6 == 0 else "" for n in range(n_items))
    return [{"text": f"t{n}", "labels": names[n % 8] + other} for n, other in enumerate(others)]


@pytest.mark.parametrize(
    ("labels", "message"),
    {
        "a;;b": "'a;;b' has an empty label next to ';'; name it",
        "a;": "'a;' has an empty label next to ';'",
        "": "'labels' is empty; name the class",
        f"a;{'x' * 300}": "(300 characters); expected printable text of at most 200",
    }.items(),
    ids=lambda text: text[:10],
)
def test_a_bad_label_is_a_problem_of_its_row(
    tmp_path: Path, check: Check, labels: str, message: str
) -> None:
    rows = many()
    rows[7]["labels"] = labels

    found = check(write_table(tmp_path / "t.csv", rows), label_separator=";")

    (problem,) = found.problems
    assert problem.where == "t.csv:9" and message in problem.message


def test_a_label_with_too_few_items_is_refused_and_left_out(tmp_path: Path, check: Check) -> None:
    rows = many()
    rows[5]["labels"] += ";rare"
    table = write_table(tmp_path / "t.csv", rows)

    found = check(table, label_separator=";", min_items=2)

    assert "class 'rare': has 1 item without fault; expected 2 or more" in str(found.problems[0])
    assert found.is_usable(skip_bad=True)
    assert not any("rare" in item.label for item in found.items)


def test_a_label_whose_items_go_to_later_splits_is_refused(tmp_path: Path, check: Check) -> None:
    known = sampled(tmp_path / "t.csv")
    splits = check(known, label="tags", label_separator="|").splits
    of_test = next(t for t, split in splits.items() if split == "meta_test" and "|" not in t)
    with known.open() as file:
        rows = list(csv.DictReader(file))
    train = {la for t, s in splits.items() if s == "meta_train" for la in t.split("|")}
    label = sorted(train)[0]
    for row in rows:
        if label in row["tags"].split("|"):
            row["tags"] += f"|{of_test}"

    found = check(write_table(tmp_path / "u.csv", rows), label="tags", label_separator="|")

    assert problems_of(found.problems) == [
        f"class {label!r}: has 0 items left in its split, since an item goes to the last split of "
        "its labels; expected 2 or more: add some, or lower --min-items [small-class]"
    ]


def test_a_separator_that_no_label_holds_is_refused(tmp_path: Path, check: Check) -> None:
    found = check(sampled(tmp_path / "t.csv"), label="tags", label_separator=";")

    (problem,) = found.problems
    assert problem.is_fatal and problem.kind == "no-separator"
    assert "no item has several labels: no label holds ';'" in problem.message


def test_a_folder_without_a_table_has_no_separator(tmp_path: Path, check: Check) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "a.txt").write_text(name)

    with pytest.raises(ConfigError, match=r"--label-separator ';' separates labels in a column"):
        check(tmp_path / "pets", label_separator=";")


@pytest.mark.parametrize("separator", ["a", "; and ;", "x" * 9, "\n"])
def test_a_separator_is_short_and_of_no_letters(separator: str) -> None:
    with pytest.raises(ConfigError, match=r"label_separator=.*no letters or digits"):
        FolderOptions(label_separator=separator)
