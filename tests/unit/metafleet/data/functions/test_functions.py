"""Users' functions: rows of a table, for regression."""

import json
from pathlib import Path

import pytest
import torch

from metafleet.data.registry import open_data, open_source
from metafleet.episode import EpisodeShape
from metafleet.errors import ConfigError, DataError, DataMissingError, MetafleetError
from metafleet.seeds import CounterRng

SHAPE = EpisodeShape(0, 3, 4)
HEADER = "machine,temp,load,power\n"


def row_of(machine: int, number: int) -> str:
    return f"m{machine},{number / 4},{machine},{machine * number}\n"


def table(folder: Path, text: str | None = None, name: str = "t.csv") -> dict[str, object]:
    lines = [row_of(machine, number) for number in range(8) for machine in range(10)]
    path = folder / name
    path.write_text(HEADER + "".join(lines) if text is None else text)
    columns = {"task": "machine", "x": ["temp", "load"], "y": ["power"]}
    return {"name": "functions", "path": str(path), **columns}


def test_an_episode_is_rows_of_one_task(tmp_path: Path) -> None:
    source = open_source(table(tmp_path), tmp_path)
    seen = set()
    for index in range(40):
        episode = source.sample("meta_train", SHAPE, CounterRng(1, "meta_train", 0, index))
        x = torch.cat([episode.support.inputs["x"], episode.query.inputs["x"]])
        y = torch.cat([episode.support.targets, episode.query.targets])
        (machine,) = set(x[:, 1].tolist())
        assert len(set(x[:, 0].tolist())) == 7  # no row twice
        torch.testing.assert_close(y[:, 0], machine * 4 * x[:, 0])
        seen.add(machine)
    assert len(seen) == 6
    again = source.sample("meta_train", SHAPE, CounterRng(1, "meta_train", 0, 39))
    assert torch.equal(again.query.targets, episode.query.targets)
    assert (source.modalities, source.target_dim) == ({"x": (2,)}, 1)


def test_splits_share_no_task_and_are_hashed_or_given(tmp_path: Path) -> None:
    source = open_source(table(tmp_path), tmp_path)
    counts = {split: source.count_rows(split) for split in source.splits}
    assert [len(tasks) for tasks in counts.values()] == [6, 2, 2]
    assert len(set().union(*counts.values())) == 10
    lines = [
        f"m{m},{n},{m},{n},{'dev' if m < 2 else 'train'}\n" for m in range(4) for n in range(7)
    ]
    given = table(tmp_path, "machine,temp,load,power,fold\n" + "".join(lines))
    source = open_source(given | {"split_column": "fold"}, tmp_path)
    assert set(source.count_rows("meta_val")) == {"m0", "m1"}
    with pytest.raises(ConfigError, match="has no task in 'meta_test'; its splits are: meta_train"):
        source.check("meta_test", SHAPE)


def test_the_digest_is_of_the_rows_and_not_of_the_place(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    here, there = table(tmp_path), table(tmp_path / "other")
    assert open_data(here, tmp_path).digest() == open_data(there, tmp_path).digest()
    assert (
        open_data(here | {"y": ["load"], "x": ["temp", "power"]}, tmp_path).digest()
        != open_data(here, tmp_path).digest()
    )
    table(tmp_path / "other", HEADER + row_of(1, 1))
    assert open_data(here, tmp_path).digest() != open_data(there, tmp_path).digest()


def test_json_lines_and_other_delimiters_give_the_same(tmp_path: Path) -> None:
    source = open_source(table(tmp_path), tmp_path)
    episode = source.sample("meta_test", SHAPE, CounterRng(1, "meta_test", 0, 0))
    lines = (tmp_path / "t.csv").read_text().splitlines()
    keys = lines[0].split(",")
    rows = [dict(zip(keys, line.split(","), strict=True)) for line in lines[1:]]
    numbers = [{k: v if k == "machine" else float(v) for k, v in row.items()} for row in rows]
    for name, text in {
        "t.tsv": "\n".join(line.replace(",", "\t") for line in lines),
        "t.jsonl": "\n".join(json.dumps(row) for row in numbers),
    }.items():
        same = open_source(table(tmp_path, text, name), tmp_path)
        found = same.sample("meta_test", SHAPE, CounterRng(1, "meta_test", 0, 0))
        assert torch.equal(found.query.targets, episode.query.targets)
        assert torch.equal(found.support.inputs["x"], episode.support.inputs["x"])


def test_it_is_counted(tmp_path: Path) -> None:
    options = table(tmp_path)
    assert (
        open_data(options, tmp_path).is_ready() and open_data(options, tmp_path).prepare() is None
    )
    summary = open_data(options, tmp_path).summarise()
    assert summary.splits["meta_train"].classes == 6
    assert summary.splits["meta_train"].fewest_items == 8
    assert summary.modalities["x"].items == 80
    assert summary.facts["x"] == "temp, load"


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (HEADER + "a,1,2\n", ["t.csv:2: has 3 fields where the header has 4"]),
        (
            HEADER + "a,1,x,3\n,1,2,3\na,1,2,inf\n",
            [
                "t.csv:2: load='x'; expected a finite number",
                "t.csv:3: has no 'machine'; expected the name of a function",
                "t.csv:4: power='inf'; expected a finite number",
            ],
        ),
        ("machine,temp,load\na,1,2\n", ["has no column 'power'; its columns are 'machine'"]),
        (HEADER, ["has no row; expected a header and rows"]),
        ("", ["is empty; expected a header and rows"]),
    ],
    ids=["fields", "cells", "column", "no rows", "empty"],
)
def test_all_that_is_wrong_is_said_with_its_row(
    tmp_path: Path, text: str, messages: list[str]
) -> None:
    options = table(tmp_path, text)
    with pytest.raises(DataError) as caught:
        open_source(options, tmp_path)
    for message in messages:
        assert message in str(caught.value)


def test_a_task_in_two_splits_and_an_unknown_split_are_said(tmp_path: Path) -> None:
    rows = "a,1,2,3,train\na,1,2,4,test\nb,1,2,3,later\nc,1,2,3,\n"
    options = table(tmp_path, "machine,temp,load,power,fold\n" + rows)
    with pytest.raises(DataError) as caught:
        open_source(options | {"split_column": "fold"}, tmp_path)
    said = str(caught.value)
    assert "task 'a': has rows in several splits, 1 in meta_test, 1 in meta_train" in said
    assert "t.csv:4: fold='later'; expected train, val or test" in said
    assert "task 'c': has no row that says its split; say it" in said


def test_splits_of_rows_in_all_tasks_are_one_line(tmp_path: Path) -> None:
    rows = [f"m{m},1,2,3,{fold}\n" for m in range(9) for fold in ("train", "val", "test")]
    options = table(tmp_path, "machine,temp,load,power,fold\n" + "".join(rows))
    with pytest.raises(
        DataError, match=r"rows of each of 9 tasks; .* leave split_column out"
    ) as it:
        open_source(options | {"split_column": "fold"}, tmp_path)
    assert len(str(it.value).splitlines()) == 2


@pytest.mark.parametrize("absent", ["machine", "temp", "power", "fold"])
def test_json_lines_may_lack_a_key_and_it_is_said(tmp_path: Path, absent: str) -> None:
    row = {"machine": "a", "temp": 1, "load": 2, "power": 3, "fold": "train"}
    lacking = {**row, "machine": "b"}
    del lacking[absent]
    text = "\n".join(map(json.dumps, (row, lacking)))
    options = table(tmp_path, text, "t.jsonl") | {"split_column": "fold"}
    with pytest.raises(DataError) as caught:
        open_source(options, tmp_path)
    assert ("t.jsonl:2" in str(caught.value)) == (absent != "fold")
    assert absent == "fold" or absent in str(caught.value)


@pytest.mark.parametrize("cell", ["1_000", "\u0663", "true", '"1,5"'])
def test_a_malformed_number_is_refused(tmp_path: Path, cell: str) -> None:
    options = table(tmp_path, HEADER + f"a,1,{cell},3\n")
    with pytest.raises(DataError, match="expected a finite number") as caught:
        open_source(options, tmp_path)
    assert ("with a point for decimals" in str(caught.value)) == ("," in cell)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"path": ""}, DataMissingError, 'path=""; expected a table'),
        ({"path": "t.csv"}, ConfigError, "path='t.csv'; expected an absolute path, or one from ~"),
        ({"path": "/nowhere.csv"}, DataMissingError, "path='/nowhere.csv' is no file"),
        ({"path": __file__}, DataMissingError, "expected a table: one of .csv, .tsv"),
        ({"x": []}, ConfigError, "x=[]; expected a column or more"),
        ({"x": ["temp"], "y": ["temp"]}, ConfigError, "expected each column for one thing"),
        ({"split_fractions": [0.5, 0.1]}, ConfigError, "three shares that add up to 1"),
    ],
    ids=["no path", "relative", "absent", "suffix", "no x", "twice", "shares"],
)
def test_wrong_options_are_named(
    tmp_path: Path, changes: dict[str, object], error: type[MetafleetError], message: str
) -> None:
    options = table(tmp_path) | changes
    with pytest.raises(error) as caught:
        open_data(options, Path()).check_place()
    assert message in str(caught.value)


def test_shapes_that_cannot_be_filled_are_refused(tmp_path: Path) -> None:
    source = open_source(table(tmp_path), tmp_path)
    for shape, message in {
        EpisodeShape(0, 5, 4): "= 9 rows, but the largest task of 'meta_train' of 't.csv' has 8",
        EpisodeShape(5, 3, 4): "n_way=5 but 't.csv' is regression; set n_way=0",
        EpisodeShape(0, 3, 4, missing_rate=0.5): "missing_rate=0.5 but 't.csv' has one modality",
        EpisodeShape(0, 0, 4): "k_shot=0; expected 1 or more",
    }.items():
        with pytest.raises(ConfigError) as caught:
            source.check("meta_train", shape)
        assert message in str(caught.value)
