"""The data sets and configurations of `benchmarks.warm_start`."""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.slices import SLICE

KEYS: Final[Mapping[str, tuple[Any, ...]]] = {
    "learner": (
        {"name": "protonet"},
        {"name": "matchingnet"},
        {"name": "r2d2"},
        {"name": "maml", "inner_lr": 0.03},
        {"name": "maml", "inner_lr": 0.3},
        {"name": "protomaml", "inner_lr": 0.1},
    ),
    "model.hidden": ([32], [128], [64, 64]),
    "outer.lr": (0.0003, 0.002, 0.01, 0.05),
    "outer.meta_batch_size": (1, 8),
}
"""The space: key -> its values. Its 144 configurations are all tried on every data set."""

_FIXED: Final = {
    "episodes": {"n_way": 5, "k_shot": 1, "n_query": 4},
    "model": {"name": "mlp"},
    "outer": {"steps": 40, "optimiser": "adam"},
    "validation": {"every": 10, "episodes": 60},
    "test": {"episodes": 0},
    "engine": {"episodes_per_job": 8, "checkpoint_every": 40, "execution": "autograd"},
}


class DataSet(NamedTuple):
    """A data set of the benchmark.

    Attributes:
        name: its name, which is also that of its runs.
        source: the data from which it is taken; slices of one source resemble each other.
        options: name and options, as in ``[data]``.
    """

    name: str
    source: str
    options: Mapping[str, Any]


def data_sets(folder: Path | None) -> list[DataSet]:
    """Return the data sets: slices of glyphs, and of the data in ``folder`` if it is given."""
    found = _glyphs()
    return found if folder is None else [*found, *_omniglot(folder), *_others(folder)]


def configurations() -> Iterator[dict[str, Any]]:
    """Yield all configurations of the space, as key -> value."""
    for values in itertools.product(*KEYS.values()):
        yield dict(zip(KEYS, values, strict=True))


def experiment(data: DataSet, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the complete configuration of a run."""
    tree: dict[str, Any] = json.loads(json.dumps(_FIXED))
    for key, value in values.items():
        section, _, inner = key.partition(".")
        if inner:
            tree[section][inner] = value
        else:
            tree[section] = value
    return {"name": data.name, "data": dict(data.options), **tree}


def _glyphs() -> list[DataSet]:
    scripts = {
        "latin": ("Latin",),
        "symbols": ("Common",),
        "greek-cyrillic": ("Greek", "Cyrillic"),
        "east": ("Georgian", "Armenian", "Lao"),
    }
    chosen = [(m, n) for m in ("image", "stroke") for n in scripts]
    return [
        _slice(f"glyphs-{name}-{modality}", {"name": "glyphs", "modalities": [modality]}, groups)
        for modality, name in chosen
        if (groups := scripts[name]) and (modality, name) != ("stroke", "east")
    ]


def _omniglot(folder: Path) -> list[DataSet]:
    root = str(folder / "omniglot" / "omniglot_28x28_strokes64.npz")
    alphabets = {
        "cyrillic-greek-latin": ("Cyrillic", "Greek", "Latin", "Old_Church_Slavonic_(Cyrillic)"),
        "indian": ("Bengali", "Gujarati", "Gurmukhi", "Kannada", "Oriya", "Sanskrit"),
        "invented": ("Futurama", "Tengwar", "Aurek-Besh", "Keble", "Angelic", "Atlantean"),
    }
    return [
        _slice(
            f"omniglot-{name}-{modality}",
            {"name": "omniglot", "root": root, "modalities": [modality]},
            alphabets[name],
        )
        for modality, name in (("image", n) for n in alphabets)
    ] + [
        _slice(
            "omniglot-indian-stroke",
            {"name": "omniglot", "root": root, "modalities": ["stroke"]},
            alphabets["indian"],
        )
    ]


def _others(folder: Path) -> list[DataSet]:
    intents = {
        "name": "clinc150",
        "root": str(folder / "clinc150"),
        "text": {"encoder": "package:wordllama"},
    }
    money, home = ("banking", "credit_cards", "work", "meta"), ("home", "kitchen_and_dining")
    speech = {"name": "fsdd", "root": str(folder / "fsdd")}
    things = {"name": "concepts", "root": str(folder / "concepts"), "classes": "subgroup"}
    return [
        _slice("clinc150-money", intents, money),
        _slice("clinc150-home", intents, (*home, "travel", "auto_and_commute")),
        DataSet("fsdd-nicolas", "fsdd", speech),
        DataSet(
            "fsdd-george",
            "fsdd",
            {**speech, "val_speakers": ["george"], "test_speakers": ["lucas", "jackson"]},
        ),
        DataSet("concepts-pictures", "concepts", things),
    ]


def _slice(name: str, of: Mapping[str, Any], groups: tuple[str, ...]) -> DataSet:
    source = str(of["name"])
    return DataSet(name, source, {"name": SLICE, "of": dict(of), "groups": list(groups)})
