"""A folder of time series from import to labels, in one process."""

import json
from pathlib import Path

import numpy as np
import pytest

from metafleet.data.prepared.prepared import Array
from metafleet.orchestrator.cli.main import main
from tests.fleet import ROOT
from tests.folders import write

FEW = ("--calibration-episodes", "8")
SHORT = (
    "outer.steps=3",
    "outer.meta_batch_size=4",
    "validation.every=0",
    "test.episodes=4",
    "test.baselines=false",
    "data.imported=motion",
)


def movement(number: int, seed: int) -> Array:
    """Two channels of a rhythm of each class's own, of any length, at any phase."""
    rng = np.random.default_rng(seed)
    times = np.arange(rng.integers(90, 150)) + rng.random() * 50
    wave = np.sin(times[:, None] * 0.05 * (number % 6 + 1) + [0.0, number // 6])
    return np.asarray(wave + 0.05 * rng.standard_normal(wave.shape))


def movements(folder: Path, classes: range, *, items: int, seed: int) -> None:
    for number in classes:
        for item in range(items):
            values = movement(number, seed + 100 * number + item)
            rows = "x,y\n" + "\n".join(f"{x:.4f},{y:.4f}" for x, y in values)
            write(folder, {f"class{number:02d}/{item}.csv": rows})


def test_a_folder_of_series_is_imported_trained_on_adapted_to_predicted_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    movements(tmp_path / "motion", range(10), items=4, seed=1)
    movements(tmp_path / "new", range(10, 12), items=3, seed=5000)
    movements(tmp_path / "asked", range(10, 12), items=4, seed=9000)
    settings = [word for key in SHORT for word in ("--set", key)]
    experiment = str(ROOT / "experiments" / "folder-protonet.toml")

    assert main(["data", "import", "motion", "--name", "motion", "--set", "series.length=64"]) == 0
    capsys.readouterr()
    assert main(["submit", experiment, "--in-process", "--json", *settings]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "finished"
    assert main(["export", "latest", "--out", "motion.learned", *FEW]) == 0
    assert main(["adapt", "motion.learned", "--support", "new", "--out", "new.model"]) == 0
    assert main(["predict", "new.model", "asked", "--out", "labels.jsonl"]) == 0

    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    assert {row["label"] for row in rows} <= {"class10", "class11"}
    read = json.loads((tmp_path / "new.model" / "model.json").read_text())
    assert '"length": 64' in json.dumps(read) and '"channels": 2' in json.dumps(read)
