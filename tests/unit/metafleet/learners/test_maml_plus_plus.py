"""MAML++: learned step sizes, every step's query loss, orders in turn, batch norm by step."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad

from metafleet.episode import Episode, ExampleSet
from metafleet.errors import ConfigError
from metafleet.learners.maml_plus_plus import MamlPlusPlus
from metafleet.learners.registry import LEARNERS
from metafleet.params import MetaState, Params
from tests.unit.metafleet.by_hand import loss_by_hand
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
)
from tests.unit.metafleet.learners.parity import Loss, assert_differentiates, assert_gives, loss_of

N_STEPS = 3
OPTIONS = {
    "name": "maml_plus_plus",
    "inner_lr": 0.3,
    "inner_steps": N_STEPS,
    "epoch_steps": 10,
    "multi_step_epochs": 4,
    "first_order_epochs": 2,
}
LAST_STEP_ALONE = OPTIONS | {"multi_step_epochs": 0, "first_order_epochs": 0}
EACH_STEP = OPTIONS | {"first_order_epochs": 0}
PER_STEP = TINY_CONV4 | {"batch_norm": "per_step"}
EARLY = 0.75 / N_STEPS  # weight of a step that is not the last, in epoch 1 of 4
WEIGHTS = (EARLY, EARLY, 1.0 - 2 * EARLY)


def at_step(episode: Episode, step: int) -> Episode:
    return replace(episode, step=step)


def conv4_at(params: Params, theta: Params, examples: ExampleSet, step: int) -> Tensor:
    """Return the loss by hand, with the batch norm of one inner step."""
    x = examples.inputs["image"]
    for layer in ("block0", "block1"):
        x = F.conv2d(x, theta[f"{layer}.conv.weight"], padding=1)
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        spread = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
        scale, shift = (params[f"{layer}.norm.{kind}"][step] for kind in ("scale", "shift"))
        x = (x - mean) / torch.sqrt(spread + 1e-5) * scale[:, None, None] + shift[:, None, None]
        x = torch.clamp(x, 0).unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(4, 5))
    logits = x.flatten(1) @ theta["head.weight"].T + theta["head.bias"]
    return loss_by_hand(logits, examples.targets)


def stepped(params: Params, theta: Params, slope: Params, step: int) -> Params:
    """Return theta - alpha_{l,j} * slope."""
    return {n: v - params[f"rate.{n}"][step] * slope[n] for n, v in theta.items()}


def adapting(params: Params) -> Params:
    return {n: v for n, v in params.items() if f"rate.{n}" in params}


def objective(episode: Episode, weights: tuple[float, ...]) -> Loss:
    """Return params -> the weighted query losses of all inner steps, by hand."""

    def total(params: Params) -> Tensor:
        theta = adapting(params)
        losses = []
        for step in range(N_STEPS):

            def support_loss(own: Params, step: int = step) -> Tensor:
                return conv4_at(params, own, episode.support, step)

            theta = stepped(params, theta, grad(support_loss)(theta), step)
            losses.append(conv4_at(params, theta, episode.query, step))
        return sum(w * loss for w, loss in zip(weights, losses, strict=True))  # type: ignore

    return total


@pytest.mark.parametrize("batch_norm", ["transductive", "per_step"])
def test_the_last_steps_meta_gradient_is_that_of_the_papers_equations(batch_norm: str) -> None:
    episode = classification_episode(seed=1)
    model = TINY_CONV4 | {"batch_norm": batch_norm}
    learner = make_learner(episode, model=model, learner=LAST_STEP_ALONE)
    state = random_state(learner)

    # a step before the last one has no query, so all its batch norm serves the support set
    assert_differentiates(learner, state, episode, objective(episode, (0.0, 0.0, 1.0)))


def test_the_multi_step_meta_gradient_is_that_of_the_weighted_losses() -> None:
    episode = at_step(classification_episode(seed=2), 15)
    learner = make_learner(episode, model=PER_STEP, learner=EACH_STEP)
    assert_differentiates(learner, random_state(learner), episode, objective(episode, WEIGHTS))


def test_in_the_first_epochs_slopes_are_constants() -> None:
    episode = at_step(classification_episode(seed=3), 15)
    support_loss, query_loss = (loss_of("mlp", s) for s in (episode.support, episode.query))
    learner = make_learner(episode, model=TINY_MLP, learner=OPTIONS)
    state = random_state(learner)
    slopes, theta = [], adapting(state.params)
    for step in range(N_STEPS):
        slopes.append(grad(support_loss)(theta))
        theta = stepped(state.params, theta, slopes[step], step)

    def weighted(params: Params) -> Tensor:
        own, total = adapting(params), torch.zeros(())
        for step, weight in enumerate(WEIGHTS):
            own = stepped(params, own, slopes[step], step)
            total = total + weight * query_loss(own)
        return total

    assert_gives(learner, state, episode, grad(weighted)(state.params))


def learner_of(**options: object) -> MamlPlusPlus:
    learner = make_learner(classification_episode(), model=PER_STEP, learner=OPTIONS | options)
    assert isinstance(learner, MamlPlusPlus)
    return learner


def test_weights_anneal_by_epoch_to_the_last_step() -> None:
    learner = learner_of()

    def weights(step: int) -> list[float]:
        return learner.schedule(step)["step weights"].tolist()

    third = 1 / N_STEPS
    assert weights(1) == weights(10) == pytest.approx([third, third, third])
    assert weights(11) == pytest.approx(WEIGHTS)
    assert weights(31) == pytest.approx([0.25 / 3, 0.25 / 3, 1.0 - 0.5 / 3])
    assert learner.schedule(41) == {}
    least = learner_of(multi_step_epochs=100).schedule(991)["step weights"].tolist()
    assert least == pytest.approx([0.01, 0.01, 0.98])  # not 1/100 of a third, but 3/100


def test_the_derivatives_order_and_the_weights_are_told_by_the_outer_step() -> None:
    learner = learner_of()

    variants = [learner.variant(step) for step in (1, 20, 21, 40, 41)]

    assert variants == [
        *["first order, each step"] * 2,
        *["second order, each step"] * 2,
        "second order, last step",
    ]


def test_each_inner_step_has_step_sizes_and_batch_norm_of_its_own() -> None:
    params = learner_of().init_state(1).params

    assert params["block0.norm.scale"].shape == params["block0.norm.shift"].shape == (N_STEPS, 3)
    assert params["rate.block0.conv.weight"].tolist() == pytest.approx([0.3] * N_STEPS)
    assert "rate.block0.norm.scale" not in params
    assert {n for n in params if n.startswith("rate.")} == {
        f"rate.{n}" for n in params if n.startswith(("block0.conv", "block1.conv", "head"))
    }


def test_steps_beyond_those_of_training_take_the_last_ones() -> None:
    episode = classification_episode(seed=6)
    longer = make_learner(
        episode, model=TINY_CONV4, learner=OPTIONS | {"inner_steps_eval": N_STEPS + 2}
    )
    spelt_out = make_learner(
        episode, model=TINY_CONV4, learner=OPTIONS | {"inner_steps": N_STEPS + 2}
    )
    state = random_state(longer)
    rows = [0, 1, 2, 2, 2]
    by_step = ("rate.", "block0.norm", "block1.norm")
    repeated = {n: v[rows] if n.startswith(by_step) else v for n, v in state.params.items()}

    found = longer.evaluate(state, episode)

    assert found == spelt_out.evaluate(MetaState(repeated, {}), episode)
    assert found.loss != longer.episode_gradient(state, episode).metrics[0].loss


@pytest.mark.parametrize("option", ["epoch_steps", "multi_step_epochs", "first_order_epochs"])
def test_a_wrong_option_is_named(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option}=-1; expected"):
        LEARNERS.resolve({"name": "maml_plus_plus", option: -1})


def test_learned_step_sizes_are_listed_by_parameter_and_inner_step() -> None:
    learner = make_learner(classification_episode(), model=TINY_MLP, learner=OPTIONS)
    assert isinstance(learner, MamlPlusPlus)
    params = random_state(learner).params

    rates = learner.inner_rates(params)

    assert rates.keys() == {n.removeprefix("rate.") for n in params if n.startswith("rate.")}
    for name, of_steps in rates.items():
        assert of_steps == pytest.approx(params[f"rate.{name}"].tolist(), rel=1e-6)
        assert len(of_steps) == N_STEPS
