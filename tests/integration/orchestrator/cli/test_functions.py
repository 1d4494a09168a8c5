"""A user's table: regression over a fleet, adaptation to points and prediction of others."""

import csv
import json
from pathlib import Path

import pytest

from metafleet.orchestrator.cli.main import main
from tests.fleet import Fleet, child_environment

EXPERIMENT = """
name = "machines"
data = { name = "functions", path = "PATH", task = "machine", x = ["temp"], y = ["power"] }
episodes = { n_way = 0, k_shot = 3, n_query = 3 }
model = { name = "mlp", hidden = [8] }
learner = { name = "maml", inner_lr = 0.1, inner_steps = 2 }
outer = { steps = 4, meta_batch_size = 4, lr = 0.01 }
validation = { every = 2, episodes = 4 }
test = { episodes = 6, baselines = false }
"""


def test_a_table_is_regressed_over_a_fleet_as_in_one_process_and_used(
    tmp_path: Path,
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"m{m},{n / 8},{m * n / 40}" for m in range(12) for n in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["machine,temp,power", *rows]))
    (tmp_path / "e.toml").write_text(EXPERIMENT.replace("PATH", str(tmp_path / "t.csv")))
    (tmp_path / "new.csv").write_text("x,y\n0.1,0.2\n0.5,1.0\n0.9,1.8\n")
    for name, value in child_environment(fleet.settings).items():
        monkeypatch.setenv(name, value)
    fleet.start(2)

    shas = []
    for where in ([], ["--in-process"]):
        assert main(["submit", "e.toml", "--json", *where]) == 0
        shas.append(json.loads(capsys.readouterr().out)["checkpoint_sha256"])
    assert main(["adapt", "latest", "--support", "new.csv", "--out", "new.model"]) == 0
    assert main(["predict", "new.model", "new.csv", "--out", "found.csv"]) == 0

    assert shas[0] == shas[1]
    with (tmp_path / "found.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["item"] for row in found] == ["new.csv:2", "new.csv:3", "new.csv:4"]
    assert all(abs(float(row["y"])) < 10 for row in found)
