"""Predictions in files: texts that a spreadsheet would compute, and places that are no files."""

import csv
import json
import os
from pathlib import Path

import pytest

from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from metafleet.data.importing.spreadsheet import as_text, from_text
from metafleet.errors import ModelError
from metafleet.inference.prediction import Prediction, Value
from metafleet.inference.prediction_file import write_predictions

FORMULAS = ("=cmd|' /C calc'!A0", "+1", "-2", "@sum(a1)", "\tx", "\rx", "'=1", "''+1")
PLAIN = ("cat", "a=b", "'quoted'", "", "1-2", "it's")


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN])
def test_no_text_is_a_formula_and_every_text_comes_back(text: str) -> None:
    shown = as_text(text)

    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_text(shown) == text
    assert (shown == text) == (text in PLAIN)


def test_names_are_neutral_in_csv_and_exact_in_json(tmp_path: Path) -> None:
    label = FORMULAS[0]
    rows = [Prediction("=a.png", label, 0.75, {label: 0.75, "cat": 0.25}, given="cat")]

    write_predictions(rows, tmp_path / "p.csv")
    write_predictions(rows, tmp_path / "p.jsonl")

    with (tmp_path / "p.csv").open(newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert (row["item"], row["label"], row["given"]) == ("'=a.png", f"'{label}", "cat")
    assert json.loads((tmp_path / "p.jsonl").read_text())["label"] == label
    asked = FolderOptions(label="label", columns={"text": "given"})
    (item,) = read_items(tmp_path / "p.csv", asked).items
    assert item.label == label


def test_numbers_below_zero_stay_numbers(tmp_path: Path) -> None:
    write_predictions([Value("points.csv:2", (-0.5,))], tmp_path / "p.csv")

    assert (tmp_path / "p.csv").read_text() == "item,y\npoints.csv:2,-0.5\n"


def test_a_pipe_or_device_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "p.csv"
    os.mkfifo(pipe)

    with pytest.raises(ModelError, match="no plain file, and is never replaced"):
        write_predictions([Value("a", (1.0,))], pipe, force=True)

    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
