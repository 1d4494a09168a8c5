"""Random, non-degenerate episodes and sources for tests of the learning core."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from metafleet.episode import Episode, EpisodeShape, ExampleSet
from metafleet.errors import ConfigError
from metafleet.learners.base import Learner
from metafleet.learners.registry import build_learner
from metafleet.models.registry import model_factory
from metafleet.params import MetaState, Params
from metafleet.problem import Problem
from metafleet.seeds import CounterRng

IMAGE = (2, 8, 8)
SHAPE = EpisodeShape(n_way=3, k_shot=2, n_query=2)
TINY_CONV4 = {"name": "conv4", "channels": 3, "n_blocks": 2}
TINY_MLP = {"name": "mlp", "hidden": [7, 6]}


def classification_episode(
    shape: EpisodeShape = SHAPE,
    *,
    seed: int = 0,
    modalities: Mapping[str, tuple[int, ...]] | None = None,
    dtype: torch.dtype = torch.float64,
) -> Episode:
    """Draw an episode whose classes differ in mean, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    modalities = modalities or {"image": IMAGE}
    means = {name: normal(shape.n_way, *size) for name, size in modalities.items()}

    def examples(per_class: int) -> ExampleSet:
        targets = torch.arange(shape.n_way).repeat_interleave(per_class)
        inputs = {
            name: mean[targets] + normal(len(targets), *mean.shape[1:])
            for name, mean in means.items()
        }
        return ExampleSet(inputs, targets)

    return Episode(examples(shape.k_shot), examples(shape.n_query), shape.n_way)


def regression_episode(
    n_points: int = 6, *, target_dim: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Episode:
    """Draw noisy values of a random linear map."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(3, target_dim, generator=generator, dtype=torch.float64)

    def examples() -> ExampleSet:
        x = torch.randn(n_points, 3, generator=generator, dtype=torch.float64)
        noise = torch.randn(n_points, target_dim, generator=generator, dtype=torch.float64)
        return ExampleSet({"x": x.to(dtype)}, (x @ matrix + 0.1 * noise).to(dtype))

    return Episode(examples(), examples(), 0)


def problem_of(episode: Episode) -> Problem:
    """Describe the shapes of one episode."""
    modalities = {name: tuple(v.shape[1:]) for name, v in episode.support.inputs.items()}
    target_dim = int(episode.support.targets.shape[1]) if episode.is_regression else 0
    per_class = max(episode.n_way, 1)
    shape = EpisodeShape(
        episode.n_way, len(episode.support) // per_class, len(episode.query) // per_class
    )
    return Problem(modalities, target_dim, {"meta_train": shape})


def make_learner(
    episode: Episode, *, model: Mapping[str, object], learner: Mapping[str, object]
) -> Learner:
    """Build a learner that fits ``episode``."""
    problem = problem_of(episode)
    return build_learner(learner, problem, model_factory(model, problem))


def random_state(
    learner: Learner, *, seed: int = 1, dtype: torch.dtype = torch.float64
) -> MetaState:
    """Draw a state, shaken so that no scale is 1, no shift or bias 0 and no running mean 0."""
    state = learner.init_state(seed)
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: torch.Tensor) -> torch.Tensor:
        return 0.3 * torch.randn(tensor.shape, generator=generator)

    params: Params = {n: (t + noise(t)).to(dtype) for n, t in state.params.items()}
    buffers: Params = {n: (t + noise(t).abs()).to(dtype) for n, t in state.buffers.items()}
    return MetaState(params, buffers)


@dataclass(frozen=True)
class FakeSource:
    """Episodes of Gaussian classes, told apart by what the counter-based generator draws."""

    modalities: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"image": IMAGE})
    target_dim: int = 0
    texts: frozenset[str] = frozenset()
    kinds: Mapping[str, str] = field(default_factory=dict)

    def n_classes(self, split: str) -> int:
        return 20

    def check(self, split: str, shape: EpisodeShape) -> None:
        if shape.n_way > 20:
            raise ConfigError(f"n_way={shape.n_way} but split {split!r} has 20 classes")

    def sample(self, split: str, shape: EpisodeShape, rng: CounterRng) -> Episode:
        seed = rng.torch_seed()
        return classification_episode(
            shape, seed=seed, modalities=self.modalities, dtype=torch.float32
        )
