"""Users' kinds of data: refusals."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metafleet.orchestrator.cli.main import main
from tests.fleet import ROOT
from tests.spectra import make_spectra

IMPORT = ["data", "import", "minerals", "--kind", "spectra.xy:Spectrum", "--name", "minerals"]
SUBMIT = ["submit", str(ROOT / "examples" / "own_kind" / "spectra.toml"), "--in-process"]
FEW = ("--calibration-episodes", "8")
SHORT = "outer.steps=1 outer.meta_batch_size=4 test.episodes=6"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("METAFLEET_ALLOWED_PACKAGES", "spectra")
    monkeypatch.syspath_prepend(ROOT / "examples" / "own_kind")
    monkeypatch.setattr("metafleet.data.decoding.registry._imported", {})
    monkeypatch.chdir(tmp_path)
    make_spectra(tmp_path / "minerals", range(10), items=4)
    make_spectra(tmp_path / "new-minerals", range(10, 12), items=3)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "spectra"]:
        del sys.modules[name]


def test_a_model_says_which_package_it_needs_and_a_kind_which_options_it_has(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*IMPORT, "--set", "spectrum.width=3"]) == 1
    assert "has no option 'width'; its options are: high, low" in capsys.readouterr().err
    assert main([*IMPORT, "--set", "spectrum.n_points=1"]) == 1
    assert "expected n_points of 2 or more" in capsys.readouterr().err
    assert main([*IMPORT, "--kind", "spectrum"]) == 1
    assert "--kind 'spectrum'; expected a class of yours" in capsys.readouterr().err

    assert main([*IMPORT, "--set", "spectrum.n_points=64"]) == 0
    assert main([*SUBMIT, *[word for key in SHORT.split() for word in ("--set", key)]]) == 0
    assert main(["export", "latest", "--out", "spectra.learned", *FEW]) == 0
    monkeypatch.setattr("metafleet.data.decoding.registry._imported", {})
    monkeypatch.delenv("METAFLEET_ALLOWED_PACKAGES")
    capsys.readouterr()
    adapt = ["adapt", "spectra.learned", "--support", "new-minerals", "--out", "mine.model"]
    assert main(adapt) == 1
    assert "kind 'spectra.xy:Spectrum' is in package 'spectra', which may not be imported" in (
        capsys.readouterr().err
    )
