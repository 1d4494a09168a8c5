"""The card of an exported model is enough to make the same model once more."""

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from metafleet.orchestrator.cli.main import main
from tests.integration.orchestrator.cli.test_inference import EXPERIMENT
from tests.menagerie import make_classes

QUICK = EXPERIMENT.replace("steps = 12", "steps = 2").replace(
    "baselines = false", "baselines = true\n[validation]\nevery = 1\nepisodes = 3"
)
FEW = ("--calibration-episodes", "8")
SIZES = {"image": "side=16", "audio": "sample_rate_hz=8000", "text": "max_bytes=48"}


def state_in(card: str) -> str:
    found = re.search(r"sha256 of params and buffers \| `(\w{64})`", card)
    assert found is not None
    return found[1]


def test_a_card_has_the_figures_of_the_run_and_its_configuration_makes_the_same_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    make_classes(tmp_path / "things", range(12), n_items=4, seed=1)
    make_classes(tmp_path / "new", range(12, 14), n_items=3, seed=2)
    (tmp_path / "first.toml").write_text(QUICK)
    sizes = [word for kind, size in SIZES.items() for word in ("--set", f"{kind}.{size}")]
    assert main(["data", "import", str(tmp_path / "things"), *sizes]) == 0
    assert main(["submit", "first.toml", "--in-process"]) == 0
    shots = ["--set", "episodes.k_shot=1", "--episodes", "5", "--in-process"]
    assert main(["evaluate", "latest", *shots]) == 0
    assert main(["export", "latest", "--out", "first.learned", *FEW]) == 0

    card = ModelCard.load(tmp_path / "first.learned" / "README.md")
    judged = [(r.dataset_split, r.task_name, r.metric_type) for r in card.data.eval_results]
    assert set(judged) == {
        (split, f"2-way {k}-shot, 2 query", metric)
        for split, k in (("meta_val", 2), ("meta_test", 2), ("meta_test", 1))
        for metric in ("accuracy", "loss")
    }
    assert "nearest prototype of raw inputs" in card.text
    assert str(tmp_path) not in card.text
    assert "Data set `things` (digest" in card.text and card.data.datasets is None

    block = re.search(r"```toml\n(.*?)```", card.text, flags=re.DOTALL)
    assert block is not None
    (tmp_path / "again.toml").write_text(block[1])
    assert main(["submit", "again.toml", "--in-process", "--name", "again"]) == 0
    assert main(["adapt", "latest", "--support", "new", "--out", "again.model", *FEW]) == 0

    adapted = (tmp_path / "again.model" / "README.md").read_text()
    assert state_in(adapted) == state_in(card.text)
    assert "# again, adapted to 2 classes" in adapted
    assert "| thing12 | 3 |" in adapted and "Adapted from run `" in adapted
