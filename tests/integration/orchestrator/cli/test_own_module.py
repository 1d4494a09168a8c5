"""The page on networks of one's own, from the package to labels."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metafleet.contracts.settings import child_environment
from metafleet.orchestrator.cli.main import main
from tests.fleet import ROOT, Fleet
from tests.menagerie import make_classes
from tests.page_commands import page_commands

PAGE = ROOT / "docs" / "how-to" / "modules.md"
SHORT = (
    "outer.steps=3",
    "outer.meta_batch_size=4",
    "validation.every=0",
    "test.episodes=6",
    "model.width=4",
    "engine.episodes_per_job=1",
)


def commands() -> dict[str, list[str]]:
    found = page_commands(PAGE, folder="examples/own_module", package="mymods")
    assert list(found) == ["data", "up", "submit", "export", "adapt", "predict"]
    return found


def make_pictures(folder: Path, classes: range, *, seed: int) -> None:
    make_classes(folder, classes, n_items=4, seed=seed)
    for path in folder.rglob("*"):
        if path.suffix in (".wav", ".txt"):
            path.unlink()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    make_pictures(tmp_path / "pictures", range(12), seed=1)
    make_pictures(tmp_path / "new-pictures", range(12, 14), seed=2)
    make_pictures(tmp_path / "photos", range(12, 14), seed=3)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("METAFLEET_ALLOWED_PACKAGES", "mymods")
    monkeypatch.syspath_prepend(ROOT / "examples" / "own_module")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mymods"]:
        del sys.modules[name]


def test_a_network_of_ones_own_is_trained_by_a_fleet_and_labels_photos(
    home: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in child_environment(fleet.settings).items():
        if name not in ("HOME", "METAFLEET_ALLOWED_PACKAGES"):
            monkeypatch.setenv(name, value)
    allowed = {"METAFLEET_ALLOWED_PACKAGES": "mymods"}
    fleet.start(2, environment={"PYTHONPATH": str(ROOT / "examples/own_module")} | allowed)
    told = commands()
    submit = [*told["submit"], "--json", *[word for key in SHORT for word in ("--set", key)]]

    assert main([*told["data"], "--set", "image.side=12"]) == 0
    capsys.readouterr()
    assert main(submit) == 0
    over_fleet = json.loads(capsys.readouterr().out)
    assert main([*submit, "--in-process"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert over_fleet["checkpoint_sha256"] == alone["checkpoint_sha256"]
    assert len(over_fleet["workers"]) == 2

    for command in ("export", "adapt", "predict"):
        assert main(told[command]) == 0
    assert "8 items with a class of the model's" in capsys.readouterr().err
    assert len((home / "labels.csv").read_text().splitlines()) == 9


def test_an_option_that_the_constructor_does_not_have_is_one_line_at_submission(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(home / "home"))
    assert main([*commands()["submit"], "--in-process", "--set", "model.depth=3"]) == 1
    assert (
        "model 'mymods.net:Net' has no option 'depth'; its options are: batch_norm, colours, "
        "dropout, head, n_way, width"
    ) in capsys.readouterr().err
