"""The page on data sets of one's own in code, from the package to predictions."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metafleet.contracts.settings import child_environment
from metafleet.orchestrator.cli.main import main
from tests.fleet import ROOT, Fleet
from tests.page_commands import page_commands

PAGE = ROOT / "docs" / "how-to" / "own-data.md"
SHORT = (
    "outer.steps=3",
    "outer.meta_batch_size=4",
    "validation.every=0",
    "test.episodes=6",
    "engine.episodes_per_job=1",
)


def commands(package: str = "pendulums") -> dict[str, list[str]]:
    """The commands of the page for the simulator, or for the automata."""
    folder = "pendulum" if package == "pendulums" else package
    found = page_commands(PAGE, folder=f"examples/{folder}", package=package)
    first, *then = ["data", "up", "submit", "runs", "evaluate", "export", "adapt", "predict"]
    assert list(found) == [first, *(then if package == "pendulums" else then[:2])]
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("METAFLEET_ALLOWED_PACKAGES", "pendulums,automata")
    monkeypatch.syspath_prepend(ROOT / "examples" / "pendulum")
    monkeypatch.syspath_prepend(ROOT / "examples" / "automata")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "observed.csv").write_text("time_s,y\n0.1,1.0\n0.5,0.4\n0.9,-0.5\n1.4,-0.8\n")
    (tmp_path / "later.csv").write_text("time_s\n2.1\n2.5\n2.9\n")
    yield tmp_path
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("pendulums", "automata")
    ]:
        del sys.modules[name]


def test_a_simulator_is_trained_on_by_a_fleet_and_predicts(
    home: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in child_environment(fleet.settings).items():
        if name not in ("HOME", "METAFLEET_ALLOWED_PACKAGES"):
            monkeypatch.setenv(name, value)
    allowed = {"METAFLEET_ALLOWED_PACKAGES": "pendulums"}
    fleet.start(2, environment={"PYTHONPATH": str(ROOT / "examples/pendulum")} | allowed)
    told = commands()
    submit = [*told["submit"], "--json", *[word for key in SHORT for word in ("--set", key)]]

    assert main(told["data"]) == 0
    assert "time_s" in capsys.readouterr().out
    assert main(submit) == 0
    over_fleet = json.loads(capsys.readouterr().out)
    assert main([*submit, "--in-process"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert over_fleet["checkpoint_sha256"] == alone["checkpoint_sha256"]
    assert len(over_fleet["workers"]) == 2

    assert main(told["runs"]) == 0
    assert "pendulums.damped:Pendulum" in capsys.readouterr().out
    for command in ("evaluate", "export"):
        assert main(told[command]) == 0, command
    monkeypatch.delenv("METAFLEET_ALLOWED_PACKAGES")  # a model does without the data set's code
    for command in ("adapt", "predict"):
        assert main(told[command]) == 0, command
    with (home / "angles.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3


def test_classes_of_items_are_loaded_and_trained_on_by_a_fleet(
    home: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in child_environment(fleet.settings).items():
        if name not in ("HOME", "METAFLEET_ALLOWED_PACKAGES"):
            monkeypatch.setenv(name, value)
    allowed = {"METAFLEET_ALLOWED_PACKAGES": "automata"}
    fleet.start(2, environment={"PYTHONPATH": str(ROOT / "examples/automata")} | allowed)
    told = commands("automata")
    submit = [*told["submit"], "--json", *[word for key in SHORT for word in ("--set", key)]]

    assert main(told["data"]) == 0
    assert "meta_train  52 classes, 1,040 items, 20 a class" in capsys.readouterr().out
    assert (home / "rules.png").stat().st_size > 1000
    assert main(submit) == 0
    over_fleet = json.loads(capsys.readouterr().out)
    assert main([*submit, "--in-process"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert over_fleet["checkpoint_sha256"] == alone["checkpoint_sha256"]
    assert len(over_fleet["workers"]) == 2


def test_a_wrong_option_of_the_class_is_one_line_at_submission(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(home / "home"))
    submit = [*commands()["submit"], "--in-process"]
    assert main([*submit, "--set", "data.length_min_m=3"]) == 1
    assert "length_min_m=3.0; expected more than 0" in capsys.readouterr().err
    assert main([*submit, "--set", "data.mass_kg=3"]) == 1
    assert "has no option 'mass_kg'; its options are: damping_max_hz" in capsys.readouterr().err
