import pytest
import torch
from torch import Tensor
from torch.func import grad

from metafleet.episode import EpisodeShape
from metafleet.params import MetaState, Params
from tests.unit.metafleet.by_hand import conv4_by_hand, loss_by_hand, mlp_by_hand
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
    regression_episode,
)
from tests.unit.metafleet.finite_differences import assert_matches_finite_differences

BATCH_NORMS = ("transductive", "support", "running", "none")
MAML = {"name": "maml", "inner_lr": 0.3, "inner_steps": 2}


@pytest.mark.parametrize("batch_norm", BATCH_NORMS)
@pytest.mark.parametrize("learner", [MAML, {"name": "protonet"}], ids=lambda o: o["name"])
def test_conv4_gradients_match_finite_differences(
    learner: dict[str, object], batch_norm: str
) -> None:
    episode = classification_episode()
    model = TINY_CONV4 | {"batch_norm": batch_norm}
    assert_matches_finite_differences(make_learner(episode, model=model, learner=learner), episode)


@pytest.mark.parametrize("seed", range(3))
def test_mlp_gradients_match_finite_differences(seed: int) -> None:
    episode = classification_episode(seed=seed)
    assert_matches_finite_differences(make_learner(episode, model=TINY_MLP, learner=MAML), episode)


def test_regression_gradients_match_finite_differences() -> None:
    episode = regression_episode()
    assert_matches_finite_differences(make_learner(episode, model=TINY_MLP, learner=MAML), episode)


@pytest.mark.parametrize("model", ["mlp", "transductive", "none"])
def test_second_order_maml_equals_gradients_of_gradients_by_torch_func(model: str) -> None:
    episode = classification_episode(seed=3)
    options = TINY_MLP if model == "mlp" else TINY_CONV4 | {"batch_norm": model}
    learner = make_learner(episode, model=options, learner=MAML)
    state = random_state(learner)

    def forward(params: Params, x: Tensor) -> Tensor:
        if model == "mlp":
            return mlp_by_hand(params, x)
        return conv4_by_hand(params, x, has_norm=model != "none")

    def support_loss(params: Params) -> Tensor:
        outputs = forward(params, episode.support.inputs["image"])
        return loss_by_hand(outputs, episode.support.targets)

    def query_loss_after_adaptation(params: Params) -> Tensor:
        for _ in range(2):
            step = grad(support_loss)(params)
            params = {n: p - 0.3 * step[n] for n, p in params.items()}
        outputs = forward(params, episode.query.inputs["image"])
        return loss_by_hand(outputs, episode.query.targets)

    expected = grad(query_loss_after_adaptation)(state.params)
    found = learner.episode_gradient(state, episode)

    assert found.metrics[0].loss == pytest.approx(float(query_loss_after_adaptation(state.params)))
    for name, value in expected.items():
        assert bool((value != 0).any())
        torch.testing.assert_close(found.grads[name], value, rtol=1e-8, atol=1e-11)


def test_first_order_maml_is_the_query_gradient_at_the_adapted_parameters() -> None:
    episode = regression_episode(target_dim=1, seed=2)
    first = make_learner(episode, model=TINY_MLP, learner=MAML | {"first_order": True})
    second = make_learner(episode, model=TINY_MLP, learner=MAML)
    state = random_state(first)

    def loss(params: Params, part: str) -> Tensor:
        examples = getattr(episode, part)
        return ((mlp_by_hand(params, examples.inputs["x"]) - examples.targets) ** 2).mean()

    adapted = state.params
    for _ in range(2):
        step = grad(loss)(adapted, "support")
        adapted = {n: p - 0.3 * step[n] for n, p in adapted.items()}
    expected = grad(loss)(adapted, "query")

    found = first.episode_gradient(state, episode).grads
    with_curvature = second.episode_gradient(state, episode).grads
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-11)
        assert float((found[name] - with_curvature[name]).norm()) > 1e-3 * float(value.norm())


def test_protonet_equals_snells_equations() -> None:
    shape = EpisodeShape(n_way=4, k_shot=3, n_query=2)
    episode = classification_episode(shape, seed=4)
    learner = make_learner(episode, model=TINY_CONV4, learner={"name": "protonet"})
    state = random_state(learner)

    def query_loss(params: Params) -> Tensor:
        images = torch.cat([episode.support.inputs["image"], episode.query.inputs["image"]])
        embedded = conv4_by_hand(params, images, has_norm=True)
        support, query = embedded.split([len(episode.support), len(episode.query)])
        prototypes = torch.stack([support[3 * k : 3 * k + 3].mean(dim=0) for k in range(4)])
        distances = ((query[:, None] - prototypes[None]) ** 2).sum(dim=2)
        return loss_by_hand(-distances, episode.query.targets)

    expected = grad(query_loss)(state.params)
    found = learner.episode_gradient(state, episode)

    assert found.metrics[0].loss == pytest.approx(float(query_loss(state.params)))
    for name, value in expected.items():
        assert bool((value != 0).any())
        torch.testing.assert_close(found.grads[name], value, rtol=1e-8, atol=1e-11)


def test_meta_gradients_lower_the_query_loss() -> None:
    episode = classification_episode(seed=8)
    learner = make_learner(episode, model=TINY_CONV4, learner=MAML)
    state = random_state(learner)

    before = learner.episode_gradient(state, episode)
    moved = {n: p - 0.01 * before.grads[n] for n, p in state.params.items()}
    after = learner.episode_gradient(MetaState(moved, state.buffers), episode)

    assert after.metrics[0].loss < before.metrics[0].loss
