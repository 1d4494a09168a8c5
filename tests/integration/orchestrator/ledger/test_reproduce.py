"""Rows of the ledger: written from runs, run again, and what is said when something differs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metafleet.orchestrator.cli.main import main
from tests.integration.orchestrator.cli.terminal import TINY
from tests.paths import REPOSITORY

SHORT_ROWS = sorted((REPOSITORY / "results").glob("*-short-*.json"))
"""Rows of runs that take seconds and need no data from outside."""
Change = Callable[[dict[str, Any]], object]
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def row(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The row of a short run."""
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    assert main(["submit", str(file), "--in-process"]) == 0
    out = tmp_path / "rows"
    assert main(["runs", "export", "latest", "--format", "row", "--output", str(out)]) == 0
    capsys.readouterr()
    return out / "tiny-1.json"


def change(path: Path, edit: Change) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def reproduce(path: Path, *options: str) -> int:
    return main(["reproduce", str(path), "--in-process", *options])


@pytest.mark.parametrize("path", SHORT_ROWS, ids=lambda path: path.stem)
def test_the_short_rows_of_the_ledger_come_out_again(path: Path) -> None:
    assert reproduce(path) == 0


def test_there_are_short_rows() -> None:
    assert len(SHORT_ROWS) >= 3


def test_a_run_is_repeated_with_the_same_bits(
    row: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(row.read_text())
    assert [(m["split"], m["label"], m["step"]) for m in document["metrics"]] == [
        ("meta_test", "initialisation", 0),
        ("meta_test", "trained", 6),
        ("meta_val", "trained", 6),
    ]
    assert reproduce(row) == 0
    out = capsys.readouterr().out
    assert f"same bits: checkpoint sha256 {document['checkpoint_sha256']}" in out
    assert out.count("equal") == 3 and "run 2 repeats tiny, seed 1" in out
    assert reproduce(row, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same_bits"] and found["inside"] and found["differences"] == {}


def test_other_bits_of_the_same_arithmetic_are_an_error(
    row: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(row, lambda document: document.update(checkpoint_sha256="0" * 64))

    assert reproduce(row) == 1
    told = capsys.readouterr()
    assert "other bits:" in told.out
    assert "the bits differ from the row's, although the arithmetic is the same" in told.err
    assert "These differences" not in told.out
    assert reproduce(row, "--check", "interval") == 0


def test_on_another_processor_the_interval_counts(
    row: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def elsewhere(document: dict[str, Any]) -> None:
        document["checkpoint_sha256"] = "0" * 64
        document["fingerprint"] |= {"cpu": "VSX", "probe": "3a89eb277803"}

    change(row, elsewhere)
    assert reproduce(row) == 0
    capsys.readouterr()
    assert reproduce(row, "--check", "bits") == 1
    told = capsys.readouterr()
    assert "the processor's instruction set, as PyTorch uses it (cpu): VSX -> " in told.out
    assert "digest of a test computation (probe): 3a89eb277803 -> " in told.out
    assert "The same bits are expected only if all of these are equal." in told.out
    assert "use --check interval" in told.err
    change(row, lambda document: document["metrics"][1].update(loss=1e3))
    assert reproduce(row) == 1
    told = capsys.readouterr()
    assert "outside" in told.out and "a result is outside of its interval" in told.err


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda document: document.update(format=2), "format: Input should be 1"),
        (lambda document: document.pop("seed"), "is no row of a ledger"),
        (lambda document: document.update(more=1), "is no row of a ledger"),
        (lambda document: document["metrics"][0].update(loss="x"), "is no row of a ledger"),
        (lambda document: document["metrics"][0].update(loss=float("nan")), "a finite number"),
        (lambda document: document["metrics"][0].update(loss=None), "metrics.0.loss: "),
        (lambda document: document["metrics"][0].update(loss=True), "metrics.0.loss: "),
        (lambda document: document["metrics"][0].update(episodes=[]), "metrics.0.episodes: "),
        (lambda document: document["metrics"][0].update(step="6"), "metrics.0.step: "),
        (lambda document: document["metrics"][0].pop("split"), "metrics.0.split: "),
        (lambda document: document["metrics"][0].update(more=1), "metrics.0.more: "),
        (lambda document: document.update(metrics=[]), "metrics: "),
        (lambda document: document.update(metrics={}), "metrics: "),
        (lambda document: document.update(fingerprint=[]), "fingerprint: "),
        (lambda document: document.update(fingerprint={"outer": 3}), "fingerprint.outer: "),
        (lambda document: document.update(config=[]), "config: "),
        (lambda document: document.update(config={}), "configuration has seed=None"),
        (lambda document: document["config"].update(data=[]), "data"),
        (lambda document: document.update(seed="1"), "seed: "),
        (lambda document: document.update(seed=2), "seed=2 but its configuration has seed=1"),
        (lambda document: document.update(wall_s=[]), "wall_s: "),
        (lambda document: document.update(package_versions=3), "package_versions: "),
        (lambda document: document.update(experiment=None), "experiment: "),
        (lambda document: document.update(checkpoint_sha256=""), "checkpoint_sha256: "),
        (lambda document: document["config"].update(outer=3), "outer"),
        (lambda document: document.update(data_digest="f" * 64), "prepare the same data"),
    ],
)
def test_what_is_no_row_is_refused_in_one_line(
    row: Path, edit: Change, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(row, edit)

    assert reproduce(row) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize("content", ["", "[]", "{", "3", '{"format": 1}', "[" * 100_000])
def test_no_file_crashes_the_command(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "row.json").write_text(content)

    assert reproduce(tmp_path / "row.json") == 1
    assert reproduce(tmp_path / "missing.json") == 1
    assert capsys.readouterr().err.count("\n") == 2


def test_rows_that_would_replace_each_other_are_not_written(
    tmp_path: Path, row: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ["--in-process", "--set", "outer.lr=0.002"]
    assert main(["submit", str(tmp_path / "tiny.toml"), *other]) == 0
    export = ["runs", "export", "--format", "row", "--output", str(tmp_path / "both")]
    capsys.readouterr()

    assert main([*export, "--where", "experiment=tiny"]) == 1
    error = capsys.readouterr().err
    assert "runs 2 and 1 would both be written to tiny-1.json" in error and error.count("\n") == 1
    assert not (tmp_path / "both").exists()
    assert main([*export, "1", "1"]) == 0


def test_a_run_that_was_not_tested_has_no_row(
    tmp_path: Path, row: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.toml"
    assert main(["submit", str(file), "--in-process", "--set", "test.episodes=0"]) == 0
    export = ["runs", "export", "latest", "--format", "row", "--output", str(tmp_path / "rows")]
    capsys.readouterr()

    assert main(export) == 1
    assert "metafleet runs clone 2 --set test.episodes=600" in capsys.readouterr().err
    assert main(["runs", "clone", "2", "--set", "test.episodes=5", "--in-process"]) == 0
    assert main(export) == 0


def test_missing_data_are_told_with_the_command_that_prepares_them(
    row: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(row, lambda document: document["config"].update(data={"name": "clinc150"}))

    assert reproduce(row) == 1
    error = capsys.readouterr().err
    assert "prepare them with `metafleet data prepare clinc150`" in error
    assert error.count("\n") == 1
