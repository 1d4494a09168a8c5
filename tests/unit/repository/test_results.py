"""The page of results: its numbers are those of the rows, and every row is on it."""

import json
import re
import shutil
import statistics
from pathlib import Path

import pytest

from tests.pages import results
from tests.pages.ledger import FOLDER, read_ledger

ROWS = sorted(FOLDER.glob("*.json"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ledger of two seeds of one run."""
    for seed in (1, 2):
        name = f"fsdd-speech-{seed}.json"
        shutil.copy(FOLDER / name, tmp_path / name)
    return tmp_path


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_result_is_the_mean_over_the_seeds(folder: Path) -> None:
    values = [
        metric["accuracy"]
        for path in sorted(folder.iterdir())
        for metric in json.loads(path.read_text())["metrics"]
        if (metric["split"], metric["label"]) == ("meta_test", "trained")
    ]
    result = read_ledger(folder)["fsdd-speech"]

    # the quantile of Student's t distribution with one degree of freedom
    interval = 12.706 * statistics.stdev(values) / 2**0.5
    expected = f"{100 * statistics.fmean(values):.2f} ± {100 * interval:.2f}"
    assert result.find("trained") == expected and result.seeds == "1,2"
    assert result.find("ridge") is None
    (folder / "fsdd-speech-2.json").unlink()
    (alone,) = read_ledger(folder).values()
    assert alone.find("trained") == "99.19 ± 0.15"  # over its episodes


def test_rows_of_one_name_differ_only_in_the_seed(folder: Path) -> None:
    path = folder / "fsdd-speech-2.json"
    edit(path, data_digest="0" * 64)
    with pytest.raises(ValueError, match="differ in more than the seed"):
        read_ledger(folder)
    path.rename(folder / "fsdd-speech-3.json")
    with pytest.raises(ValueError, match="the row of seed 2"):
        read_ledger(folder)


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_every_row_names_a_commit_and_no_place_on_a_machine(path: Path) -> None:
    row = json.loads(path.read_text())

    assert re.fullmatch(r"\d+\.\d+\.\d+\+g[0-9a-f]{12}", row["code_version"])
    assert not re.search(r'"/|"~', path.read_text())
    assert f" --name {path.stem.rpartition('-')[0]} --seeds " in results.render()


def test_a_result_without_a_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "TEXT", tmp_path / "page.md.in")
    for text in ("{{nowhere trained}}", "{{table nowhere}}", "{{fsdd-speech nothing}}"):
        results.TEXT.write_text(text)
        with pytest.raises((KeyError, ValueError)):
            results.render()


def test_only_what_differs_from_the_shipped_experiment_is_in_a_command() -> None:
    result = read_ledger()["sinusoid-maml-10shot"]

    assert result.command == (
        "metafleet submit experiments/paper/sinusoid-maml-10shot.toml --name sinusoid-maml-10shot "
        f"--seeds {result.seeds} --in-process"
    )
