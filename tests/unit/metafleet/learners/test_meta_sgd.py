"""Meta-SGD: a learned step size for each parameter."""

import pytest
import torch
from torch import Tensor
from torch.func import grad

from metafleet.errors import ConfigError
from metafleet.learners.registry import LEARNERS
from metafleet.params import MetaState, Params
from tests.unit.metafleet.few_shot import (
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
)
from tests.unit.metafleet.learners.parity import (
    MODELS,
    assert_differentiates,
    assert_gives,
    loss_of,
)

META_SGD = {"name": "meta_sgd", "inner_steps": 2}


def by_hand(state: Params, support_loss, n_steps: int = 2) -> Params:
    """Return theta after steps of theta - alpha o grad."""
    theta = {n: v for n, v in state.items() if not n.startswith("rate.")}
    for _ in range(n_steps):
        slope = grad(support_loss)(theta)
        theta = {n: v - state[f"rate.{n}"] * slope[n] for n, v in theta.items()}
    return theta


@pytest.mark.parametrize("model", MODELS)
def test_the_meta_gradient_is_that_of_the_papers_equation(model: str) -> None:
    episode = classification_episode(seed=1)
    support_loss, query_loss = (loss_of(model, s) for s in (episode.support, episode.query))
    learner = make_learner(episode, model=MODELS[model], learner=META_SGD)
    state = random_state(learner)

    def loss_after_adaptation(params: Params) -> Tensor:
        return query_loss(by_hand(params, support_loss))

    assert len(state.params) == 2 * len(by_hand(state.params, support_loss))
    assert_differentiates(learner, state, episode, loss_after_adaptation)


def test_a_step_size_of_one_steps_gradient_is_minus_the_product_of_both_slopes() -> None:
    episode = classification_episode(seed=2)
    support_loss, query_loss = (loss_of("mlp", s) for s in (episode.support, episode.query))
    options = META_SGD | {"inner_steps": 1, "first_order": True}
    learner = make_learner(episode, model=TINY_MLP, learner=options)
    state = random_state(learner)

    before = grad(support_loss)(by_hand(state.params, support_loss, 0))
    after = grad(query_loss)(by_hand(state.params, support_loss, 1))
    rates = {f"rate.{n}": -before[n] * after[n] for n in after}

    assert_gives(learner, state, episode, after | rates)


def test_it_is_maml_while_all_step_sizes_are_one_number() -> None:
    episode = classification_episode(seed=5)
    learner = make_learner(
        episode,
        model=TINY_MLP,
        learner=META_SGD | {"inner_lr_min": 0.25, "inner_lr_max": 0.25},
    )
    maml = make_learner(
        episode, model=TINY_MLP, learner={"name": "maml", "inner_lr": 0.25, "inner_steps": 2}
    )
    theta = random_state(maml)
    first = learner.init_state(7).params
    rates = {n: v.double() for n, v in first.items() if n.startswith("rate.")}

    found = learner.episode_gradient(MetaState(theta.params | rates, {}), episode).grads
    for name, value in maml.episode_gradient(theta, episode).grads.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11)


def test_all_step_sizes_start_at_one_value_drawn_from_the_seed() -> None:
    learner = make_learner(classification_episode(), model=TINY_MLP, learner=META_SGD)

    def first(seed: int) -> set[float]:
        params = learner.init_state(seed).params
        return {float(v) for n, r in params.items() if n.startswith("rate.") for v in r.flatten()}

    firsts = [first(seed) for seed in range(20)]
    assert all(len(values) == 1 for values in firsts)
    assert all(0.005 <= min(values) <= 0.1 for values in firsts)
    assert len(set.union(*firsts)) == 20
    assert first(3) == firsts[3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner_lr_min": 0.0}, "inner_lr_min=0.0; expected more than 0"),
        ({"inner_lr_max": 0.001}, "inner_lr_max=0.001; expected inner_lr_min=0.005 or more"),
        ({"inner_steps": 0}, "inner_steps=0; expected 1 or more"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LEARNERS.resolve({"name": "meta_sgd", **options})
