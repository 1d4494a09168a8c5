"""The page on kinds of data of one's own, from a folder of files to labels."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from metafleet.contracts.settings import child_environment
from metafleet.orchestrator.cli.main import main
from tests.fleet import ROOT, Fleet
from tests.page_commands import page_commands
from tests.unit.metafleet.data.importing.folders import write

PAGE = ROOT / "docs" / "how-to" / "own-kinds.md"
SHORT = (
    *("outer.steps=3", "outer.meta_batch_size=4", "validation.every=0", "test.episodes=6"),
    "engine.episodes_per_job=1",
)


def make_spectra(folder: Path, classes: range, *, items: int) -> None:
    """A peak at each class's own position, with noise."""
    rng = np.random.default_rng(classes.start)
    positions = np.arange(0, 1000, 8)
    for number in classes:
        for item in range(items):
            peak = np.exp(-(((positions - 60 * number - 40) / 25) ** 2))
            rows = np.stack([positions, peak + 0.05 * rng.random(len(positions))], axis=1)
            lines = "\n".join(f"{x} {y:.4f}" for x, y in rows)
            write(folder, {f"class{number:02d}/{item}.xy": lines})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("METAFLEET_ALLOWED_PACKAGES", "spectra")
    monkeypatch.syspath_prepend(ROOT / "examples" / "own_kind")
    monkeypatch.setattr("metafleet.data.decoding.registry._imported", {})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    make_spectra(tmp_path / "minerals", range(10), items=4)
    make_spectra(tmp_path / "new-minerals", range(10, 12), items=3)
    make_spectra(tmp_path / "unknown", range(10, 12), items=4)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "spectra"]:
        del sys.modules[name]


def commands() -> dict[str, list[str]]:
    found = page_commands(PAGE, folder="examples/own_kind", package="spectra")
    assert list(found) == ["data", "up", "submit", "export", "adapt", "predict"]
    return found


def test_a_kind_of_a_package_is_trained_on_by_a_fleet_adapted_to_and_predicted(
    home: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in child_environment(fleet.settings).items():
        if name not in ("HOME", "METAFLEET_ALLOWED_PACKAGES"):
            monkeypatch.setenv(name, value)
    allowed = {"METAFLEET_ALLOWED_PACKAGES": "spectra"}
    fleet.start(2, environment={"PYTHONPATH": str(ROOT / "examples/own_kind")} | allowed)
    told = commands()
    submit = [*told["submit"], "--json", *[word for key in SHORT for word in ("--set", key)]]

    assert main(told["data"]) == 0
    assert "spectrum 64x1, 40 items have it" in capsys.readouterr().out
    assert main(["data", "inspect", "minerals", "--sheet", "sheet.png"]) == 0
    capsys.readouterr()
    assert main(submit) == 0
    over_fleet = json.loads(capsys.readouterr().out)
    assert main([*submit, "--in-process"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert over_fleet["checkpoint_sha256"] == alone["checkpoint_sha256"]
    assert len(over_fleet["workers"]) == 2

    for command in ("export", "adapt", "predict"):
        assert main(told[command]) == 0, command
    assert "8 items with a class of the model's" in capsys.readouterr().err
    assert len((home / "labels.csv").read_text().splitlines()) == 9


def test_a_model_says_which_package_it_needs_and_a_kind_which_options_it_has(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(home / "home"))
    told = commands()
    assert main([*told["data"], "--set", "spectrum.width=3"]) == 1
    assert "has no option 'width'; its options are: high, low" in capsys.readouterr().err
    assert main([*told["data"], "--set", "spectrum.n_points=1"]) == 1
    assert "expected n_points of 2 or more" in capsys.readouterr().err
    assert main([*told["data"], "--kind", "spectrum"]) == 1
    assert "--kind 'spectrum'; expected a class of yours" in capsys.readouterr().err

    assert main(told["data"]) == 0
    short = [word for key in SHORT for word in ("--set", key)]
    assert main([*told["submit"], "--in-process", *short]) == 0
    assert main(told["export"]) == 0
    monkeypatch.setattr("metafleet.data.decoding.registry._imported", {})
    monkeypatch.delenv("METAFLEET_ALLOWED_PACKAGES")
    capsys.readouterr()
    assert main(told["adapt"]) == 1
    assert "kind 'spectra.xy:Spectrum' is in package 'spectra', which may not be imported" in (
        capsys.readouterr().err
    )
