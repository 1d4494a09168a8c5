"""Users' networks and learners: refusals, and the recorded version of their code."""

import subprocess
from pathlib import Path

import pytest

from metafleet.orchestrator.cli.main import main
from tests.fleet import ROOT

LEARNER = """
from metafleet.learners.maml import Maml


class Own(Maml):
    pass
"""
EXPERIMENT = """
name = "own"
data = { name = "sinusoid" }
episodes = { n_way = 0, k_shot = 2, n_query = 2 }
model = { name = "mlp", hidden = [4] }
learner = { name = "lab_with_a_commit.learning:Own", inner_lr = 0.01 }
outer = { steps = 1, meta_batch_size = 2, lr = 1e-3 }
validation = { every = 0 }
test = { episodes = 2, baselines = false }
"""


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


def test_the_commit_of_a_users_package_is_recorded_and_compared_at_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "lab" / "lab_with_a_commit"
    package.mkdir(parents=True)
    (package / "learning.py").write_text(LEARNER)
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first")):
        who = ("-c", "user.name=lab", "-c", "user.email=lab@example.org")
        subprocess.run(["git", "-C", str(package.parent), *who, *arguments], check=True)
    (tmp_path / "own.toml").write_text(EXPERIMENT)
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("METAFLEET_ALLOWED_PACKAGES", "lab_with_a_commit")
    monkeypatch.syspath_prepend(package.parent)
    assert main(["submit", str(tmp_path / "own.toml"), "--in-process"]) == 0
    assert main(["runs", "show", "latest"]) == 0
    shown = capsys.readouterr().out
    assert "own code     lab_with_a_commit commit " in shown and "with changes" not in shown

    (package / "more.py").write_text("")
    assert main(["runs", "resume", "latest", "--from-start", "--in-process"]) == 0

    said = capsys.readouterr().err
    assert "package 'lab_with_a_commit' was commit " in said and " with changes, sources " in said
