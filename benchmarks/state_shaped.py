"""A learner that computes nothing and returns gradients of the size of its state."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metafleet.episode import Episode, ExampleSet
from metafleet.learners.base import EpisodeMetrics, MetaGradient
from metafleet.models.base import ModelFactory
from metafleet.params import MetaState, Params
from metafleet.problem import Problem

N_TENSORS = 12


def make_params(n_bytes: int, seed: int) -> Params:
    """Draw random float32 tensors with a total size of ``n_bytes``."""
    generator = torch.Generator().manual_seed(seed)
    size = n_bytes // 4 // N_TENSORS
    return {
        f"layer{i:02d}.weight": torch.randn(size, generator=generator) for i in range(N_TENSORS)
    }


@functools.cache
def _gradient(n_bytes: int) -> Params:
    return make_params(n_bytes, seed=1)


class StateShaped:
    """Returns the same random gradient for every episode."""

    @dataclass(frozen=True)
    class Options:
        """Size of the state in bytes."""

        n_bytes: int = 50_000_000

    batch_norm = "none"

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes

    @classmethod
    def build(cls, options: Any, problem: Problem, make_model: ModelFactory) -> "StateShaped":
        """Build the learner from its options; problem and model are ignored."""
        return cls(options.n_bytes)

    def init_state(self, seed: int) -> MetaState:
        """Draw a state."""
        return MetaState(make_params(self._n_bytes, seed), {})

    def episode_gradient(self, state: MetaState, episode: Episode) -> MetaGradient:
        """Return the precomputed gradient, and a loss read from the state."""
        loss = float(next(iter(state.params.values()))[0])
        return MetaGradient(dict(_gradient(self._n_bytes)), {}, (EpisodeMetrics(loss, None),))

    def evaluate(self, state: MetaState, episode: Episode) -> EpisodeMetrics:
        """Return a loss of 0."""
        return EpisodeMetrics(0.0, None)

    def predict(
        self, state: MetaState, support: ExampleSet, inputs: Mapping[str, Tensor], n_way: int
    ) -> Tensor:
        """Raise ``NotImplementedError``."""
        raise NotImplementedError
