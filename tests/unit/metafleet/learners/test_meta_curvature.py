"""Meta-Curvature: gradients multiplied by a learned matrix from each side."""

import pytest
import torch
from torch import Tensor
from torch.func import grad

from metafleet.params import MetaState, Params
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    classification_episode,
    make_learner,
    random_state,
)
from tests.unit.metafleet.learners.parity import MODELS, assert_differentiates, loss_of

CURVATURE = {"name": "meta_curvature", "inner_lr": 0.3, "inner_steps": 2}


def mode_product(tensor: Tensor, matrix: Tensor, mode: int) -> Tensor:
    """Multiply every fibre along ``mode`` by the matrix: the definition of x_n."""
    return torch.stack(
        [(tensor.movedim(mode, -1) * row).sum(dim=-1) for row in matrix], dim=-1
    ).movedim(-1, mode)


def curved(state: Params, name: str, slope: Tensor) -> Tensor:
    """Return G x_3 M_f x_2 M_i x_1 M_o."""
    key = f"curvature.{name}"
    if slope.dim() == 1:
        return state[f"{key}.out"] * slope
    tensor = slope.reshape(slope.shape[0], slope.shape[1], -1)
    if f"{key}.filter" in state:
        tensor = mode_product(tensor, state[f"{key}.filter"], 2)
    tensor = mode_product(mode_product(tensor, state[f"{key}.in"], 1), state[f"{key}.out"], 0)
    return tensor.reshape(slope.shape)


@pytest.mark.parametrize("model", MODELS)
def test_the_meta_gradient_is_that_of_the_papers_equation(model: str) -> None:
    episode = classification_episode(seed=1)
    support_loss, query_loss = (loss_of(model, s) for s in (episode.support, episode.query))

    def loss_after_adaptation(params: Params) -> Tensor:
        theta = {n: v for n, v in params.items() if not n.startswith("curvature.")}
        for _ in range(2):
            slope = grad(support_loss)(theta)
            theta = {n: v - 0.3 * curved(params, n, slope[n]) for n, v in theta.items()}
        return query_loss(theta)

    learner = make_learner(episode, model=MODELS[model], learner=CURVATURE)
    assert_differentiates(learner, random_state(learner), episode, loss_after_adaptation)


def test_each_side_of_a_tensor_has_a_square_matrix() -> None:
    learner = make_learner(classification_episode(), model=TINY_CONV4, learner=CURVATURE)
    params = learner.init_state(1).params

    def sides(name: str) -> list[tuple[int, ...]]:
        found = {n: tuple(v.shape) for n, v in params.items() if n.startswith(f"curvature.{name}.")}
        return [found[n] for n in sorted(found)]

    assert tuple(params["block0.conv.weight"].shape) == (3, 2, 3, 3)
    assert sides("block0.conv.weight") == [(9, 9), (2, 2), (3, 3)]
    assert tuple(params["head.weight"].shape) == (3, 12)
    assert sides("head.weight") == [(12, 12), (3, 3)]
    assert sides("head.bias") == [(3,)]


def test_it_starts_as_maml() -> None:
    episode = classification_episode(seed=5)
    learner = make_learner(episode, model=TINY_CONV4, learner=CURVATURE)
    maml = make_learner(episode, model=TINY_CONV4, learner=CURVATURE | {"name": "maml"})
    theta = random_state(maml)
    first = learner.init_state(7).params
    identity = {n: v.double() for n, v in first.items() if n.startswith("curvature.")}

    found = learner.episode_gradient(MetaState(theta.params | identity, {}), episode).grads

    for name, value in maml.episode_gradient(theta, episode).grads.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11)
