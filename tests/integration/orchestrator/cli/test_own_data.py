"""Users' data set classes: refusals, and commands that need no class."""

from pathlib import Path

import pytest

from metafleet.orchestrator.cli.main import main
from tests.fleet import ROOT

SUBMIT = ["submit", str(ROOT / "examples" / "pendulum" / "pendulum.toml"), "--in-process"]
SHORT = "outer.steps=1 outer.meta_batch_size=4 validation.every=0 test.episodes=6"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("METAFLEET_ALLOWED_PACKAGES", "pendulums")
    monkeypatch.syspath_prepend(ROOT / "examples" / "pendulum")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_does_without_the_code_of_its_data_set(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "observed.csv").write_text("time_s,y\n0.1,1.0\n0.5,0.4\n0.9,-0.5\n1.4,-0.8\n")
    (home / "later.csv").write_text("time_s\n2.1\n2.5\n2.9\n")
    short = [word for key in SHORT.split() for word in ("--set", key)]
    assert main([*SUBMIT, *short]) == 0
    assert main(["export", "latest", "--out", "pendulum.learned"]) == 0

    monkeypatch.delenv("METAFLEET_ALLOWED_PACKAGES")
    adapt = ["adapt", "pendulum.learned", "--support", "observed.csv", "--out", "mine.model"]
    assert main(adapt) == 0
    assert main(["predict", "mine.model", "later.csv", "--out", "angles.csv"]) == 0

    assert len((home / "angles.csv").read_text().splitlines()) == 4


def test_a_wrong_option_of_the_class_is_one_line_at_submission(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SUBMIT, "--set", "data.length_min_m=3"]) == 1
    assert "length_min_m=3.0; expected more than 0" in capsys.readouterr().err
    assert main([*SUBMIT, "--set", "data.mass_kg=3"]) == 1
    assert "has no option 'mass_kg'; its options are: damping_max_hz" in capsys.readouterr().err
