"""A folder of texts with a pretrained encoder, an experiment on it, and hosts without weights."""

import os
from pathlib import Path
from typing import Any

from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests.fleet import ROOT
from tests.folders import CLASSES, OTHER_SEED, write

ENCODER = "package:wordllama"
_WORDS = [
    "a",
    "river",
    "of",
    "cold",
    "stones",
    "under",
    "seven",
    "bright",
    "windows",
    "and",
    "one",
    "slow",
    "train",
]


def write_texts(folder: Path, *, n_each: int = 6) -> Path:
    """Write texts that share a few words with those of their class."""
    texts = {
        f"{name}/{item}.txt": f"{name} {_WORDS[number]} {_WORDS[item % len(_WORDS)]} {item}"
        for number, name in enumerate(CLASSES)
        for item in range(n_each)
    }
    return write(folder, texts)


def options(folder: Path) -> dict[str, Any]:
    """The data set's options."""
    text = {"encoder": ENCODER}
    return {"name": "folder", "path": str(folder), "split_seed": OTHER_SEED, "text": text}


def experiment(folder: Path, *, n_steps: int = 6) -> ExperimentConfig:
    """An adapter trained on the features of the folder."""
    return ExperimentConfig.from_json(
        {
            "name": "texts",
            "seed": 3,
            "data": options(folder),
            "episodes": {"n_way": 2, "k_shot": 1, "n_query": 2},
            "model": {"name": "adapter"},
            "learner": {"name": "protonet"},
            "outer": {"steps": n_steps, "meta_batch_size": 8, "lr": 0.01},
            "validation": {"every": 0},
            "test": {"episodes": 4, "baselines": False},
            "engine": {"episodes_per_job": 2},
        }
    )


def without_weights(folder: Path) -> dict[str, str]:
    """Return the environment of a host that has its own empty data folder and no weights."""
    site = folder / "site"
    site.mkdir(parents=True, exist_ok=True)
    hide = (
        "import importlib.util\n"
        "_find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: (\n"
        '    None if name == "wordllama" else _find(name, package))\n'
    )
    (site / "sitecustomize.py").write_text(hide)
    paths = (str(site), str(ROOT), os.environ.get("PYTHONPATH", ""))
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "METAFLEET_DATA_DIR": str(folder / "data"),
    }
