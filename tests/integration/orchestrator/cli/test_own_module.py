"""Users' networks: refusals."""

from pathlib import Path

import pytest

from metafleet.orchestrator.cli.main import main
from tests.fleet import ROOT


def test_an_option_that_the_constructor_does_not_have_is_one_line_at_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("METAFLEET_ALLOWED_PACKAGES", "mymods")
    monkeypatch.syspath_prepend(ROOT / "examples" / "own_module")
    file = str(ROOT / "examples" / "own_module" / "net.toml")

    assert main(["submit", file, "--in-process", "--set", "model.depth=3"]) == 1
    assert (
        "model 'mymods.net:Net' has no option 'depth'; its options are: batch_norm, colours, "
        "dropout, head, n_way, width"
    ) in capsys.readouterr().err
