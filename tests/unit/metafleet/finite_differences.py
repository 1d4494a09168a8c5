"""Meta-gradients against central differences of the query loss."""

import pytest
import torch

from metafleet.episode import Episode
from metafleet.learners.base import Learner
from metafleet.params import MetaState, Params
from tests.unit.metafleet.few_shot import random_state


def slope(learner: Learner, state: MetaState, episode: Episode, direction: Params) -> float:
    """Differentiate the query loss along ``direction`` by central differences."""
    step = 1e-7  # short: MAML is not even continuous where a ReLU or a maximum switches

    def loss(sign: float) -> float:
        moved = {n: p + sign * step * direction[n] for n, p in state.params.items()}
        return learner.episode_gradient(MetaState(moved, state.buffers), episode).metrics[0].loss

    return (loss(1.0) - loss(-1.0)) / (2.0 * step)


def assert_matches_finite_differences(learner: Learner, episode: Episode) -> None:
    """Compare the gradient of every tensor along a random direction; none may vanish."""
    state = random_state(learner)
    grads = learner.episode_gradient(state, episode).grads
    assert all(float(g.abs().max()) > 1e-5 for g in grads.values())
    assert grads.keys() == state.params.keys()

    generator = torch.Generator().manual_seed(5)
    for name in state.params:  # one direction a tensor: none can hide behind a larger one
        direction = {n: torch.zeros_like(p) for n, p in state.params.items()}
        direction[name] = torch.randn(
            state.params[name].shape, generator=generator, dtype=torch.float64
        )
        expected = slope(learner, state, episode, direction)
        found = float((grads[name] * direction[name]).sum())
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6), name
