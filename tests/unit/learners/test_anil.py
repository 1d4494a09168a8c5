"""ANIL: the head alone adapts."""

import pytest
import torch
from torch import Tensor
from torch.func import grad

from metafleet.errors import ConfigError
from metafleet.learners.anil import Anil
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

ANIL = {"name": "anil", "inner_lr": 0.7, "inner_steps": 3}
HEAD = {"mlp": ("layer2.weight", "layer2.bias")}
CONV4_HEAD = ("head.weight", "head.bias")


@pytest.mark.parametrize("model", MODELS)
def test_the_meta_gradient_is_that_of_the_papers_equation(model: str) -> None:
    episode = classification_episode(seed=1)
    support_loss, query_loss = (loss_of(model, s) for s in (episode.support, episode.query))

    def loss_after_adaptation(params: Params) -> Tensor:
        adapted = params
        for _ in range(3):
            slope = grad(support_loss)(adapted)
            moved = {n: adapted[n] - 0.7 * slope[n] for n in HEAD.get(model, CONV4_HEAD)}
            adapted = {**params, **moved}
        return query_loss(adapted)

    learner = make_learner(episode, model=MODELS[model], learner=ANIL)
    assert_differentiates(learner, random_state(learner), episode, loss_after_adaptation)


def test_first_order_takes_the_slopes_as_constants() -> None:
    episode = classification_episode(seed=2)
    support_loss, query_loss = (loss_of("mlp", s) for s in (episode.support, episode.query))
    learner = make_learner(episode, model=TINY_MLP, learner=ANIL | {"first_order": True})
    state = random_state(learner)

    adapted = state.params
    for _ in range(3):
        slope = grad(support_loss)(adapted)
        adapted = {**adapted, **{n: adapted[n] - 0.7 * slope[n] for n in HEAD["mlp"]}}

    assert_gives(learner, state, episode, grad(query_loss)(adapted))


@pytest.mark.parametrize("batch_norm", ["support", "running", "frozen"])
def test_gradients_match_finite_differences(batch_norm: str) -> None:
    episode = classification_episode()
    model = TINY_CONV4 | {"batch_norm": batch_norm}
    assert_matches_finite_differences(make_learner(episode, model=model, learner=ANIL), episode)


def test_episodes_can_be_mapped() -> None:
    episodes = [classification_episode(seed=seed) for seed in (3, 4)]
    learner = make_learner(episodes[0], model=TINY_CONV4, learner=ANIL)
    assert_maps(learner, random_state(learner), episodes)


def test_the_body_does_not_move_and_sees_the_support_set_once() -> None:
    episode = classification_episode(seed=5)
    learner = make_learner(episode, model=TINY_MLP, learner=ANIL)
    assert isinstance(learner, Anil)
    state = random_state(learner)
    context = learner.training_context(state, episode)

    first = learner.begin(state.params, episode.support, context)
    last = first
    for index in range(3):
        last = learner.advance(state.params, last, index, episode.support, context)

    assert set(first) == set(last) == {*HEAD["mlp"], "support features"}
    assert torch.equal(first["support features"], last["support features"])
    assert all(bool((first[name] != last[name]).any()) for name in HEAD["mlp"])


def test_batch_norm_for_each_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_norm='per_step' but learner 'anil'"):
        make_learner(
            classification_episode(), model=TINY_CONV4 | {"batch_norm": "per_step"}, learner=ANIL
        )
