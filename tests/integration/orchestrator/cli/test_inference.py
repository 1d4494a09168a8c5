"""From a folder of pictures, sounds and texts to labels, by four commands; and what they refuse."""

import csv
import json
import os
import re
import shlex
from pathlib import Path

import pytest

from metafleet.contracts.settings import child_environment
from metafleet.orchestrator.cli.main import main
from tests.fleet import ROOT, Fleet
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
FEW = ("--calibration-episodes", "8")
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


SHORT = (
    "outer.steps=8",
    "validation.every=4",
    "validation.episodes=8",
    "test.episodes=8",
    "test.baselines=false",
)


def readme_commands() -> list[list[str]]:
    """The four commands of the README's second chapter, without the program's name."""
    chapter = (ROOT / "README.md").read_text().split("## Your own data")[1]
    block = re.search(r"^```sh\n(.*?)^```", chapter, flags=re.MULTILINE | re.DOTALL)
    assert block is not None
    lines = [shlex.split(line) for line in block[1].splitlines()]
    assert [words[:2] for words in lines] == [
        ["metafleet", command] for command in ("data", "submit", "adapt", "predict")
    ]
    return [[os.path.expanduser(word) for word in words[1:]] for words in lines]


def test_the_four_commands_of_the_readme_label_photos_over_a_fleet_of_any_size_alike(
    home: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_classes(home / "pets", range(12), n_items=6, seed=1)
    make_classes(home / "new-pets", range(12, 16), n_items=4, seed=2)
    make_classes(home / "photos", range(12, 16), n_items=6, seed=3)
    for name, value in child_environment(fleet.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(home))
    import_, submit, adapt, predict = readme_commands()
    submit += ["--json", *[word for key in SHORT for word in ("--set", key)]]
    first, _ = fleet.start(2)

    assert main([*import_, *[word for size in SMALL for word in ("--set", size)]]) == 0
    capsys.readouterr()
    assert main(submit) == 0
    over_two = json.loads(capsys.readouterr().out)
    assert main([*adapt, *FEW]) == 0
    assert main(predict) == 0
    assert "24 items with a known class" in capsys.readouterr().err
    first.stop()
    assert main(submit) == 0
    over_one = json.loads(capsys.readouterr().out)

    assert over_two["checkpoint_sha256"] == over_one["checkpoint_sha256"]
    assert len(over_one["workers"]) == 1
    with (home / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert all(sum(float(row[f"p(thing{n})"]) for n in range(12, 16)) > 0.999 for row in rows)
    # by chance, 24 items in 4 classes are right 6 times; 18 or more once in a million
    assert sum(row["label"] == row["given"] for row in rows) >= 18

    assert main(["export", "latest", "--out", "pets.learned", *FEW]) == 0
    assert main(["adapt", "pets.learned", "--support", "new-pets", "--out", "b.model"]) == 0
    assert (home / "b.model/tensors.safetensors").read_bytes() == (
        home / "new-pets.model/tensors.safetensors"
    ).read_bytes()

    refused = {
        "there is no folder or file": ["data", "import", "nowhere", "--name", "other"],
        "no folder was imported as 'yours'": [*submit, "--set", "data.imported=yours"],
        "no run 'absent'": ["adapt", "absent", "--support", "new-pets", "--out", "c.model"],
        "exists": ["adapt", "latest", "--support", "new-pets", "--out", "new-pets.model"],
        "there is no folder": ["adapt", "latest", "--support", "nowhere", "--out", "c.model"],
        "has not been adapted": ["predict", "pets.learned", "photos"],
        "there is no model at photos; of a run, ": ["predict", "photos", "photos"],
        "leave out --out to print CSV": ["predict", "new-pets.model", "photos", "--out", "-"],
        "neither .csv": ["predict", "new-pets.model", "photos", "--out", "labels.txt"],
    }
    for message, arguments in refused.items():
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert len([line for line in error.splitlines() if line.startswith("error: ")]) == 1
    assert not (home / "c.model").exists()


MIXTURE = """
[[data.parts]]
name = "folder"
imported = "things"
[[data.parts]]
name = "folder"
imported = "things"
part = "seen"
modalities = ["image"]
"""


def test_a_run_on_a_mixture_is_adapted_to_files_of_a_part(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_classes(home / "things", range(12), n_items=4, seed=1)
    mixture = EXPERIMENT.replace('name = "folder"\nimported = "things"', 'name = "mixture"')
    (home / "mixture.toml").write_text(mixture + MIXTURE)
    sizes = [word for assignment in SMALL for word in ("--set", assignment)]
    assert main(["data", "import", "things", *sizes]) == 0
    assert main(["submit", "mixture.toml", "--in-process", "--set", "outer.steps=1"]) == 0

    assert main(["adapt", "latest", "--support", "things", "--out", "a.model", *FEW]) == 0
    capsys.readouterr()
    assert main(["predict", "a.model", "things/thing03/001.png"]) == 0

    shown = capsys.readouterr().out
    assert "001.png,thing" in shown and shown.count("\n") == 2


def test_a_run_without_a_checkpoint_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_classes(home / "things", range(12), n_items=4, seed=1)
    (home / "things.toml").write_text(EXPERIMENT)
    sizes = [word for assignment in SMALL for word in ("--set", assignment)]
    assert main(["data", "import", "things", *sizes]) == 0
    assert main(["submit", "things.toml", "--detach"]) == 0

    assert main(["adapt", "latest", "--support", "things", "--out", "a.model"]) == 1

    assert "run 1 is queued and has no checkpoint yet" in capsys.readouterr().err


def test_a_split_is_judged_on_more_classes_than_there_are_for_training(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, classes in {"train": range(3), "val": range(3, 5), "test": range(5, 10)}.items():
        make_classes(home / "zoo" / split, classes, n_items=4, seed=1)
    (home / "things.toml").write_text(EXPERIMENT)
    small = [word for size in SMALL for word in ("--set", size)]
    assert main(["data", "import", str(home / "zoo"), "--name", "things", *small]) == 0
    ways = ("--set", "episodes.meta_train.n_way=3", "--set", "outer.steps=2")
    assert main(["submit", str(home / "things.toml"), "--in-process", *ways]) == 0
    command = ["evaluate", "latest", "--episodes", "4", "--in-process", "--json", "--set"]
    capsys.readouterr()

    assert main([*command, "episodes.n_way=5", "--baselines"]) == 0
    judged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["label"] for e in judged] == [
        f"{what}, n_way=5" for what in ("trained", "initialisation", "nearest_prototype")
    ]
    assert main([*command, "episodes.n_way=6"]) == 1
    assert "'meta_test' of 'things' has 5 classes" in capsys.readouterr().err


def test_a_fleet_judges_a_run_and_its_baselines_as_one_process_does(
    home: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_classes(home / "things", range(12), n_items=4, seed=1)
    (home / "things.toml").write_text(EXPERIMENT)
    for name, value in child_environment(fleet.settings).items():
        monkeypatch.setenv(name, value)
    small = [word for size in SMALL for word in ("--set", size)]
    assert main(["data", "import", str(home / "things"), *small]) == 0
    assert main(["submit", "things.toml", "--in-process", "--set", "outer.steps=2"]) == 0
    fleet.start(2)
    command = ["evaluate", "latest", "--episodes", "9", "--baselines", "--json"]
    capsys.readouterr()

    judged = []
    for where in ([], ["--in-process"]):
        assert main([*command, *where]) == 0
        judged.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])

    assert [e["label"] for e in judged[0]] == ["trained", "initialisation", "nearest_prototype"]
    assert [e["step"] > 0 for e in judged[0]] == [True, False, False]
    assert judged[0] == judged[1]
