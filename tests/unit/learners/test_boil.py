"""BOIL: the body alone adapts."""

import pytest
from torch import Tensor
from torch.func import grad

from metafleet.learners.boil import Boil
from metafleet.params import Params
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
)
from tests.unit.metafleet.finite_differences import assert_matches_finite_differences

from .parity import MODELS, assert_differentiates, assert_gives, assert_maps, loss_of

BOIL = {"name": "boil", "inner_lr": 0.3, "inner_steps": 2}
HEADS = ("layer2.", "head.")


@pytest.mark.parametrize("model", MODELS)
def test_the_meta_gradient_is_that_of_the_papers_equation(model: str) -> None:
    episode = classification_episode(seed=1)
    support_loss, query_loss = (loss_of(model, s) for s in (episode.support, episode.query))

    def loss_after_adaptation(params: Params) -> Tensor:
        for _ in range(2):
            slope = grad(support_loss)(params)
            rates = {n: 0.0 if n.startswith(HEADS) else 0.3 for n in params}
            params = {n: value - rates[n] * slope[n] for n, value in params.items()}
        return query_loss(params)

    learner = make_learner(episode, model=MODELS[model], learner=BOIL)
    assert_differentiates(learner, random_state(learner), episode, loss_after_adaptation)


def test_first_order_takes_the_slopes_as_constants() -> None:
    episode = classification_episode(seed=2)
    support_loss, query_loss = (loss_of("mlp", s) for s in (episode.support, episode.query))
    learner = make_learner(episode, model=TINY_MLP, learner=BOIL | {"first_order": True})
    state = random_state(learner)

    adapted = state.params
    for _ in range(2):
        slope = grad(support_loss)(adapted)
        moved = {n: v - 0.3 * slope[n] for n, v in adapted.items() if not n.startswith(HEADS)}
        adapted = {**adapted, **moved}

    assert_gives(learner, state, episode, grad(query_loss)(adapted))


@pytest.mark.parametrize("batch_norm", ["support", "per_step"])
def test_gradients_match_finite_differences(batch_norm: str) -> None:
    episode = classification_episode()
    model = TINY_CONV4 | {"batch_norm": batch_norm}
    assert_matches_finite_differences(make_learner(episode, model=model, learner=BOIL), episode)


def test_episodes_can_be_mapped() -> None:
    episodes = [classification_episode(seed=seed) for seed in (3, 4)]
    learner = make_learner(episodes[0], model=TINY_CONV4, learner=BOIL)
    assert_maps(learner, random_state(learner), episodes)


def test_the_head_does_not_move_in_the_inner_loop() -> None:
    episode = classification_episode(seed=5)
    learner = make_learner(episode, model=TINY_MLP, learner=BOIL)
    assert isinstance(learner, Boil)
    state = random_state(learner)
    context = learner.training_context(state, episode)

    fast = learner.begin(state.params, episode.support, context)
    fast = learner.advance(state.params, fast, 0, episode.support, context)

    assert set(fast) == {n for n in state.params if not n.startswith(HEADS)}
    assert all(bool((fast[name] != state.params[name]).any()) for name in fast)
