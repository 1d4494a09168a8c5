"""Classes of points around centres, and a learner of them, for tests of calibration."""

from collections.abc import Mapping

import torch

from metafleet.calibration.calibrating import Calibrator
from metafleet.episode import META_TEST, META_VAL, EpisodeShape
from metafleet.episodes.classes import ClassEpisodeSource
from metafleet.episodes.items import ClassRows, Modality
from metafleet.learners.base import Learner
from metafleet.learners.registry import build_learner
from metafleet.models.registry import model_factory
from metafleet.params import MetaState
from metafleet.problem import Problem

DIM = 6
SHAPE = EpisodeShape(n_way=3, k_shot=1, n_query=4)


def points(
    n_val: int = 12, n_test: int = 40, *, items: int = 12, test_noise: float = 0.7
) -> ClassEpisodeSource:
    """Draw classes, which are alike in both splits unless ``test_noise`` is changed."""
    generator = torch.Generator().manual_seed(1)
    n_classes = n_val + n_test
    centres = torch.randn(n_classes, 1, DIM, generator=generator)
    noise = torch.tensor([0.7] * n_val + [test_noise] * n_test)[:, None, None]
    values = centres + noise * torch.randn(n_classes, items, DIM, generator=generator)
    rows = values.reshape(-1, DIM)
    classes = [ClassRows(items * number, items) for number in range(n_classes)]
    return ClassEpisodeSource(
        {"x": Modality((DIM,), lambda chosen: rows[chosen])},
        {META_VAL: classes[:n_val], META_TEST: classes[n_val:]},
        name="points",
    )


def nearest_prototypes() -> tuple[Learner, MetaState]:
    """Make a learner that compares points as they are, by distances that are much too sure."""
    return _built({"name": "nearest_prototype"}, {})


def fixed_head() -> tuple[Learner, MetaState]:
    """Make a learner of exactly as many classes as ``SHAPE`` has."""
    learner = {"name": "maml", "inner_lr": 0.1, "inner_steps": 1}
    return _built(learner, {"name": "mlp", "hidden": [8]})


def _built(learner: Mapping[str, object], model: Mapping[str, object]) -> tuple[Learner, MetaState]:
    problem = Problem({"x": (DIM,)}, 0, {META_VAL: SHAPE})
    built = build_learner(learner, problem, model_factory(model, problem) if model else _no_model)
    return built, built.init_state(1)


def _no_model(n_outputs: int | None) -> object:
    raise AssertionError("nearest prototypes have no model")


def calibrator(
    source: ClassEpisodeSource | None = None,
    *,
    n_episodes: int = 100,
    n_unknown: int | None = None,
    shape: EpisodeShape = SHAPE,
) -> Calibrator:
    """Calibrate nearest prototypes of points."""
    learner, state = nearest_prototypes()
    return Calibrator(
        learner,
        state,
        source or points(),
        shape,
        seed=5,
        n_unknown=n_unknown,
        n_episodes=n_episodes,
    )
