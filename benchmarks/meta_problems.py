"""Meta-gradient problems with the same networks, parameters and episodes for us and the peers."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metafleet.episode import META_TRAIN, Episode, EpisodeShape, ExampleSet
from metafleet.learners.base import Learner
from metafleet.learners.registry import build_learner
from metafleet.models.registry import model_factory
from metafleet.params import MetaState
from metafleet.problem import Problem

SIDE = 28


@dataclass(frozen=True, slots=True)
class MetaProblem:
    """One meta-batch of second-order MAML.

    Attributes:
        learner: our learner.
        state: its parameters.
        episodes: the meta-batch.
        net: the peers' network, with the same parameters, in the order of ``names``.
        names: our names of ``net.parameters()``.
        inner_lr, inner_steps: step size and number of steps of the adaptation.
    """

    learner: Learner
    state: MetaState
    episodes: tuple[Episode, ...]
    net: nn.Module
    names: tuple[str, ...]
    inner_lr: float
    inner_steps: int

    def to(self, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> "MetaProblem":
        """Return the problem in another precision or on another device."""

        def move(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device, dtype) for name, tensor in tensors.items()}

        def moved(part: ExampleSet) -> ExampleSet:
            targets = part.targets.to(device, dtype if part.targets.is_floating_point() else None)
            return ExampleSet(move(part.inputs), targets)

        return replace(
            self,
            state=MetaState(move(self.state.params), move(self.state.buffers)),
            episodes=tuple(
                replace(e, support=moved(e.support), query=moved(e.query)) for e in self.episodes
            ),
            net=copy.deepcopy(self.net).to(device, dtype),
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss that the inner and the outer loop minimise."""
        return (F.cross_entropy if self.episodes[0].n_way else F.mse_loss)(outputs, targets)


def sinusoid(n_tasks: int, inner_steps: int) -> MetaProblem:
    """Build sine wave regression: an MLP of 40-40 hidden units, 10 support and 10 query points."""
    shape = EpisodeShape(n_way=0, k_shot=10, n_query=10)
    problem = Problem({"x": (1,)}, 1, {META_TRAIN: shape})
    generator = torch.Generator().manual_seed(0)

    def points(amplitude: Tensor, phase: Tensor) -> ExampleSet:
        x = 10.0 * torch.rand(10, 1, generator=generator) - 5.0
        return ExampleSet({"x": x}, amplitude * torch.sin(x - phase))

    def episode() -> Episode:
        amplitude, phase = torch.rand(2, generator=generator) * torch.tensor([4.9, 3.14])
        return Episode(*(points(amplitude + 0.1, phase) for _ in range(2)), n_way=0)

    learner, state = _maml(problem, {"name": "mlp", "hidden": [40, 40]}, 0.01, inner_steps)
    net = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
    return _joined(learner, state, [episode() for _ in range(n_tasks)], net, (0.01, inner_steps))


def omniglot(n_tasks: int, *, n_query: int = 15) -> MetaProblem:
    """Build the workload that both peers use: 5-way 5-shot, 3 blocks of 64 filters, 5 steps of 0.1.

    Source: ``examples/maml-omniglot.py`` of higher, ``examples/few-shot/maml_omniglot.py`` of
    TorchOpt, which use 32 tasks.
    """
    shape = EpisodeShape(n_way=5, k_shot=5, n_query=n_query)
    return conv(shape, n_tasks, n_blocks=3, inner_lr=0.1, inner_steps=5)


def conv4(n_tasks: int, *, inner_steps: int = 5) -> MetaProblem:
    """Build conv4-64: four blocks of 64 filters, 5-way 1-shot, 15 query images per class."""
    shape = EpisodeShape(n_way=5, k_shot=1, n_query=15)
    return conv(shape, n_tasks, n_blocks=4, inner_lr=0.1, inner_steps=inner_steps)


def conv(
    shape: EpisodeShape, n_tasks: int, *, n_blocks: int, inner_lr: float, inner_steps: int
) -> MetaProblem:
    """Build the classification of random images: a speckle pattern per class, plus noise."""
    problem = Problem({"image": (1, SIDE, SIDE)}, 0, {META_TRAIN: shape})
    generator = torch.Generator().manual_seed(0)

    def episode() -> Episode:
        classes = torch.rand(shape.n_way, 1, SIDE, SIDE, generator=generator)

        def images(per_class: int) -> ExampleSet:
            targets = torch.arange(shape.n_way).repeat_interleave(per_class)
            noise = torch.rand(len(targets), 1, SIDE, SIDE, generator=generator)
            return ExampleSet({"image": 0.7 * classes[targets] + 0.3 * noise}, targets)

        return Episode(images(shape.k_shot), images(shape.n_query), n_way=shape.n_way)

    model = {"name": "conv4", "channels": 64, "n_blocks": n_blocks}
    learner, state = _maml(problem, model, inner_lr, inner_steps)
    layers: list[nn.Module] = []
    for block in range(n_blocks):
        layers += [
            nn.Conv2d(64 if block else 1, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64, track_running_stats=False),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
    n_features = state.params["head.weight"].shape[1]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(n_features, shape.n_way))
    return _joined(
        learner, state, [episode() for _ in range(n_tasks)], net, (inner_lr, inner_steps)
    )


def as_learner(problem: MetaProblem, name: str, **options: Any) -> Learner:
    """Build another learner with the same model, parameters and episodes."""
    learner: Any = problem.learner
    steps = {"inner_lr": problem.inner_lr, "inner_steps": problem.inner_steps}
    spec = {"name": name, **steps, **options}
    return build_learner(spec, learner.problem, lambda *_, **__: learner.model)


def _maml(
    problem: Problem, model: Mapping[str, Any], inner_lr: float, inner_steps: int
) -> tuple[Learner, MetaState]:
    spec = {"name": "maml", "inner_lr": inner_lr, "inner_steps": inner_steps}
    learner = build_learner(spec, problem, model_factory(model, problem))
    return learner, learner.init_state(1)


def _joined(
    learner: Learner,
    state: MetaState,
    episodes: list[Episode],
    net: nn.Module,
    inner: tuple[float, int],
) -> MetaProblem:
    """Copy our parameters into the peers' network, whose parameters have the same order."""
    with torch.no_grad():
        for theirs, ours in zip(net.parameters(), state.params.values(), strict=True):
            theirs.copy_(ours)
    return MetaProblem(learner, state, tuple(episodes), net, tuple(state.params), *inner)
