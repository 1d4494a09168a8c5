"""From a folder of pictures, sounds and texts to labels, by four commands; and what they refuse."""

import csv
from pathlib import Path

import pytest

from orchestrator.cli.main import main
from tests.menagerie import make_classes

EXPERIMENT = """
name = "things"
[data]
name = "folder"
imported = "things"
[episodes]
n_way = 2
k_shot = 2
n_query = 2
[episodes.meta_train]
n_way = 4
[model]
name = "fusion"
dim = 16
batch_norm = "support"
[model.encoders.image]
name = "conv4"
channels = 8
n_blocks = 2
[model.encoders.audio]
name = "audio_conv"
channels = 8
[model.encoders.text]
name = "ngram_bag"
[learner]
name = "protonet"
[outer]
steps = 12
meta_batch_size = 4
lr = 3e-3
[test]
episodes = 4
baselines = false
"""
SMALL = (
    "image.side=16",
    "audio.sample_rate_hz=8000",
    "audio.duration_s=0.5",
    "audio.n_mels=16",
    "text.max_bytes=48",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_mixed_folder_goes_from_import_to_labels(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_classes(home / "things", range(12), n_items=6, seed=1)
    make_classes(home / "support", range(12, 16), n_items=4, seed=2)
    make_classes(home / "photos", range(12, 16), n_items=6, seed=3)
    (home / "things.toml").write_text(EXPERIMENT)
    sizes = [word for assignment in SMALL for word in ("--set", assignment)]

    assert main(["data", "import", "things", *sizes]) == 0
    assert main(["submit", "things.toml", "--in-process"]) == 0
    assert main(["adapt", "latest", "--support", "support", "--out", "a.model"]) == 0
    assert main(["predict", "a.model", "photos", "--out", "labels.csv"]) == 0

    with (home / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert "24 items with a class of the model's" in capsys.readouterr().err
    # by chance, 24 items in 4 classes are right 6 times; 18 or more once in a million
    assert sum(row["label"] == row["given"] for row in rows) >= 18

    assert main(["export", "latest", "--out", "things.learned"]) == 0
    assert main(["adapt", "things.learned", "--support", "support", "--out", "b.model"]) == 0
    assert (home / "b.model/tensors.safetensors").read_bytes() == (
        home / "a.model/tensors.safetensors"
    ).read_bytes()

    refused = {
        "no run 'nobody'": ["adapt", "nobody", "--support", "support", "--out", "c.model"],
        "exists": ["adapt", "latest", "--support", "support", "--out", "a.model"],
        "there is no folder": ["adapt", "latest", "--support", "nowhere", "--out", "c.model"],
        "has not been adapted": ["predict", "things.learned", "photos"],
        "is no model": ["predict", "photos", "photos"],
        "neither .csv": ["predict", "a.model", "photos", "--out", "labels.txt"],
    }
    for message, arguments in refused.items():
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert len([line for line in error.splitlines() if line.startswith("error: ")]) == 1
    assert not (home / "c.model").exists()


def test_a_run_without_a_checkpoint_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_classes(home / "things", range(12), n_items=4, seed=1)
    (home / "things.toml").write_text(EXPERIMENT)
    sizes = [word for assignment in SMALL for word in ("--set", assignment)]
    assert main(["data", "import", "things", *sizes]) == 0
    assert main(["submit", "things.toml", "--detach"]) == 0

    assert main(["adapt", "latest", "--support", "things", "--out", "a.model"]) == 1

    assert "run 1 has no checkpoint yet" in capsys.readouterr().err
