"""Reptile: a step towards the parameters after training on the episode."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import grad

from metafleet.episode import Episode, EpisodeShape, ExampleSet
from metafleet.errors import ConfigError
from metafleet.learners.registry import LEARNERS
from metafleet.learners.reptile import Reptile
from metafleet.params import MetaState, Params
from metafleet.seeds import CounterRng
from tests.unit.metafleet.few_shot import (
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
)
from tests.unit.metafleet.learners.parity import MODELS, assert_gives, loss_of

ALPHA = 0.05
SGD = {
    "name": "reptile",
    "inner_optimiser": "sgd",
    "inner_lr": ALPHA,
    "inner_steps": 3,
    "inner_batch": 0,
}
ADAM = SGD | {"inner_optimiser": "adam"}
SHAPE = EpisodeShape(n_way=3, k_shot=4, n_query=2)


def build(episode: Episode, options: dict[str, object], model: str = "mlp") -> Reptile:
    learner = make_learner(episode, model=MODELS[model], learner=options)
    assert isinstance(learner, Reptile)
    return learner


def adam_by_hand(theta: Params, slope: Params, squares: Params, t: int) -> tuple[Params, Params]:
    """Kingma and Ba's algorithm 1 with beta1 = 0, so that the first moment is the gradient."""
    squares = {n: 0.999 * v + 0.001 * slope[n] ** 2 for n, v in squares.items()}
    unbiased = {n: v / (1 - 0.999**t) for n, v in squares.items()}
    moved = {n: v - ALPHA * slope[n] / (unbiased[n] ** 0.5 + 1e-8) for n, v in theta.items()}
    return moved, squares


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_the_meta_gradient_is_the_way_back_over_alpha(model: str, optimiser: str) -> None:
    episode = classification_episode(SHAPE, seed=1)
    support_loss = loss_of(model, episode.support)
    learner = build(episode, SGD if optimiser == "sgd" else ADAM, model)
    state = random_state(learner)

    theta, squares = state.params, {n: torch.zeros_like(v) for n, v in state.params.items()}
    for t in (1, 2, 3):
        slope = grad(support_loss)(theta)
        if optimiser == "sgd":
            theta = {n: v - ALPHA * slope[n] for n, v in theta.items()}
        else:
            theta, squares = adam_by_hand(theta, slope, squares, t)

    expected = {n: (v - theta[n]) / ALPHA for n, v in state.params.items()}
    assert_gives(learner, state, episode, expected)
    found = learner.episode_gradient(state, episode).metrics[0].loss
    assert found == pytest.approx(float(loss_of(model, episode.query)(theta)))


def test_with_sgd_it_is_the_sum_of_the_slopes_along_the_way() -> None:
    episode = classification_episode(SHAPE, seed=2)
    support_loss = loss_of("mlp", episode.support)
    learner = build(episode, SGD)
    state = random_state(learner)

    total = {n: torch.zeros_like(v) for n, v in state.params.items()}
    theta = state.params
    for _ in range(3):
        slope = grad(support_loss)(theta)
        total = {n: v + slope[n] for n, v in total.items()}
        theta = {n: v - ALPHA * slope[n] for n, v in theta.items()}

    assert_gives(learner, state, episode, total)


def test_batches_go_through_the_support_set_round_by_round() -> None:
    episode = replace(classification_episode(SHAPE, seed=3), seed=11)
    options = SGD | {"inner_batch": 5, "inner_steps": 4, "inner_steps_eval": 4}
    learner = build(episode, options | {"inner_batch_eval": 5})
    state = random_state(learner)

    order = learner.draw(CounterRng(11, "draw"), 12, 6)["order"]
    rounds = order.reshape(2, 12)
    assert [sorted(r.tolist()) for r in rounds] == [list(range(12))] * 2
    assert rounds[0].tolist() != rounds[1].tolist() != list(range(12))

    theta = state.params
    for batch in order[:20].split(5):
        examples = ExampleSet(
            {"image": episode.support.inputs["image"][batch]}, episode.support.targets[batch]
        )
        slope = grad(loss_of("mlp", examples))(theta)
        theta = {n: v - ALPHA * slope[n] for n, v in theta.items()}

    expected = {n: (v - theta[n]) / ALPHA for n, v in state.params.items()}
    assert_gives(learner, state, episode, expected)


def test_the_query_set_does_not_teach() -> None:
    episode, other = (classification_episode(SHAPE, seed=seed) for seed in (4, 5))
    learner = build(episode, ADAM)
    state = random_state(learner)

    first = learner.episode_gradient(state, episode)
    second = learner.episode_gradient(state, replace(episode, query=other.query))

    assert all(torch.equal(first.grads[n], second.grads[n]) for n in state.params)
    assert first.metrics != second.metrics


def test_one_step_is_the_support_sets_gradient_and_more_are_not() -> None:
    episode = classification_episode(SHAPE, seed=6)
    one, three = (build(episode, SGD | {"inner_steps": n}) for n in (1, 3))
    state = random_state(one)
    slope = grad(loss_of("mlp", episode.support))(state.params)

    assert_gives(one, state, episode, slope)
    found = three.episode_gradient(state, episode).grads
    for name, value in slope.items():
        assert float((found[name] - 3 * value).norm()) > 1e-2 * float(value.norm()), name


def test_steps_and_batches_of_evaluation_are_its_own() -> None:
    episode = replace(classification_episode(SHAPE, seed=7), seed=5)
    judged = build(episode, SGD | {"inner_steps": 1, "inner_steps_eval": 6, "inner_batch_eval": 4})
    trained = build(episode, SGD | {"inner_steps": 6, "inner_batch": 4, "inner_batch_eval": 4})
    state = random_state(judged)

    found = judged.evaluate(state, episode)

    assert found.loss == pytest.approx(trained.episode_gradient(state, episode).metrics[0].loss)


def test_following_it_lowers_the_loss_that_adaptation_ends_with() -> None:
    episode = classification_episode(SHAPE, seed=8)
    episode = replace(episode, query=episode.support)
    learner = make_learner(episode, model=TINY_MLP, learner=SGD)
    state = random_state(learner)

    def moved(state: MetaState) -> MetaState:
        grads: dict[str, Tensor] = learner.episode_gradient(state, episode).grads
        return MetaState({n: v - 0.01 * grads[n] for n, v in state.params.items()}, {})

    last = state
    for _ in range(5):
        last = moved(last)

    assert learner.evaluate(last, episode).loss < learner.evaluate(state, episode).loss


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner_batch": -1}, "inner_batch=-1; expected 0 or more"),
        ({"inner_steps_eval": 0}, "inner_steps_eval=0; expected 1 or more"),
        (
            {"inner_optimiser": "rmsprop"},
            "inner_optimiser='rmsprop'; expected one of 'sgd', 'momentum', 'nesterov', 'adam'",
        ),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LEARNERS.resolve({"name": "reptile", **options})
