"""Small models for tests of adapting and predicting."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from metafleet.data.decoding.registry import DECODERS
from metafleet.episode import EpisodeShape, ExampleSet
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.input_spec import InputSpec
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.provenance import Provenance
from metafleet.options import parse_options
from metafleet.problem import Problem

SHAPE = EpisodeShape(n_way=3, k_shot=2, n_query=2)
DECODING: Mapping[str, dict[str, Any]] = {
    "image": {"side": 8},
    "audio": {"sample_rate_hz": 8000, "duration_s": 0.5, "n_mels": 16},
    "text": {"max_bytes": 48},
}
ORIGIN = Provenance(run="abc", name="test", step=7, data="folder", packages={"torch": "2"})
CONV = {"name": "conv4", "channels": 4, "n_blocks": 2, "batch_norm": "support"}


def spec(kind: str) -> InputSpec:
    """Describe a modality that is read as ``DECODING`` says."""
    decoder = DECODERS[kind]
    options = parse_options(decoder.Options, DECODING[kind], where=kind)
    return InputSpec(kind, decoder.version, asdict(options), decoder.example(options)[1])


def learned(
    *kinds: str,
    learner: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
) -> LearnedModel:
    """Make an untrained model of these modalities."""
    specs = {kind: spec(kind) for kind in kinds}
    problem = Problem(
        {kind: found.shape for kind, found in specs.items()},
        0,
        {"meta_train": SHAPE},
        texts=frozenset(kind for kind, found in specs.items() if found.is_text),
    )
    blueprint = Blueprint(learner or {"name": "protonet"}, model or CONV, problem, specs)
    state = blueprint.build().init_state(1)  # type: ignore[attr-defined]
    return LearnedModel.of(blueprint, state, ORIGIN)


def regressor() -> LearnedModel:
    """Make an untrained model of functions."""
    problem = Problem({"x": (1,)}, 1, {"meta_train": EpisodeShape(0, 5, 5)})
    blueprint = Blueprint({"name": "maml", "inner_lr": 0.01}, {"name": "mlp"}, problem, {})
    return LearnedModel.of(blueprint, blueprint.build().init_state(1), ORIGIN)


def support_of(model: LearnedModel, *, n_way: int = 3, k_shot: int = 2) -> ExampleSet:
    """Draw a support set."""
    generator = torch.Generator().manual_seed(5)
    targets = torch.arange(n_way).repeat_interleave(k_shot)
    shapes = model.learned.blueprint.problem.modalities
    inputs = {
        name: torch.rand(len(targets), *shape, generator=generator)
        for name, shape in shapes.items()
    }
    return ExampleSet(inputs, targets)


def files_of(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
