"""Every strategy gives the gradient that autograd gives."""

from typing import Any

import pytest
import torch

from metafleet.episode import Episode
from metafleet.errors import ConfigError, NumericsError
from metafleet.execution import Strategy, check_mapped, make_execution
from metafleet.execution.strategy import StrategyName
from metafleet.learners.base import Learner, MetaGradient
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.learners.registry import LEARNERS
from metafleet.params import MetaState, digest
from tests.learning_cases import NAMED
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
    regression_episode,
)

RAW = {"name": "raw"}
ON_RAW = ("anp", "cnp", "mann", "snail")
SHORT: dict[str, dict[str, Any]] = {
    "imaml": {"inner_steps": 3},
    "maml": {"inner_steps": 3},
    "anp": {"hidden": 16, "latent": 8},
    "cnp": {"hidden": 16},
    "mann": {"units": 12, "slots": 6, "width": 5},
    "protomaml": {"inner_steps": 3, "inner_lr": 0.1},
    "reptile": {"inner_batch": 4},
    "snail": {"filters": 8},
}
TRACEABLE = sorted(
    name
    for name in LEARNERS
    if name not in {"nearest_prototype", *NAMED}  # the first learns nothing
    and issubclass(LEARNERS[name], EpisodicLearner)
    and LEARNERS[name].is_traceable
)
INNER_LOOP = [
    name
    for name, kind in LEARNERS.items()
    if issubclass(kind, InnerLoopLearner) and kind.meta_gradient is EpisodicLearner.meta_gradient
]


def a_problem(name: str, **options: Any) -> tuple[Learner, MetaState, list[Episode]]:
    """A learner with three episodes that it has something to learn from, in float64."""
    regresses = name in ("anp", "cavia", "cnp")
    episodes = [
        regression_episode(seed=50 + i) if regresses else classification_episode(seed=50 + i)
        for i in range(3)
    ]
    model = RAW if name in ON_RAW else TINY_MLP if regresses else TINY_CONV4
    learner = make_learner(
        episodes[0], model=model, learner={"name": name} | SHORT.get(name, {}) | options
    )
    return learner, random_state(learner), episodes


def assert_same(found: MetaGradient, expected: MetaGradient) -> None:
    assert found.grads.keys() == expected.grads.keys()
    assert any(bool((value != 0).any()) for value in expected.grads.values())
    for name, value in expected.grads.items():
        torch.testing.assert_close(found.grads[name], value, rtol=1e-8, atol=1e-11, msg=name)
    assert found.buffers.keys() == expected.buffers.keys()
    for name, value in expected.buffers.items():
        torch.testing.assert_close(found.buffers[name], value, rtol=1e-9, atol=1e-12, msg=name)
    losses = [one.loss for one in expected.metrics]
    assert [one.loss for one in found.metrics] == pytest.approx(losses, rel=1e-7)
    assert [one.accuracy for one in found.metrics] == [one.accuracy for one in expected.metrics]


def test_every_learner_that_can_be_mapped_is_tried() -> None:
    assert {"maml", "protonet", "imaml", "cnp", "r2d2", "mmaml"} <= set(TRACEABLE)
    assert {"maml", "anil", "cavia", "protomaml"} <= set(INNER_LOOP)


@pytest.mark.parametrize("name", TRACEABLE)
def test_mapped_episodes_give_the_gradient_of_autograd(name: str) -> None:
    learner, state, episodes = a_problem(name)

    found = make_execution("vmap", learner).gradient(state, episodes)

    assert_same(found, make_execution("autograd", learner).gradient(state, episodes))


@pytest.mark.parametrize("name", INNER_LOOP)
def test_constant_memory_gives_the_gradient_of_autograd(name: str) -> None:
    learner, state, episodes = a_problem(name)

    found = make_execution("constant_memory", learner).gradient(state, episodes)

    assert_same(found, make_execution("autograd", learner).gradient(state, episodes))


@pytest.mark.parametrize("name", ["vmap", "constant_memory"])
@pytest.mark.parametrize(
    "batch_norm", ["transductive", "support", "running", "per_step", "frozen", "none"]
)
def test_each_batch_norm_mode_agrees_with_its_statistics(name: str, batch_norm: str) -> None:
    episodes = [classification_episode(seed=60 + i) for i in range(2)]
    learner = make_learner(
        episodes[0],
        model=TINY_CONV4 | {"batch_norm": batch_norm},
        learner={"name": "maml", "inner_lr": 0.3, "inner_steps": 2},
    )
    state = random_state(learner)

    found = make_execution(name, learner).gradient(state, episodes)

    assert_same(found, make_execution("autograd", learner).gradient(state, episodes))


@pytest.mark.parametrize("name", ["vmap", "constant_memory"])
@pytest.mark.parametrize("step", [1, 1001, 3001])
def test_each_variant_of_maml_plus_plus_agrees(name: str, step: int) -> None:
    learner, state, episodes = a_problem(
        "maml_plus_plus", epoch_steps=1000, multi_step_epochs=1, first_order_epochs=3
    )
    episodes = [Episode(e.support, e.query, e.n_way, step=step) for e in episodes]

    found = make_execution(name, learner).gradient(state, episodes)

    assert_same(found, make_execution("autograd", learner).gradient(state, episodes))


@pytest.mark.parametrize("name", ["vmap", "constant_memory"])
def test_first_order_agrees(name: str) -> None:
    learner, state, episodes = a_problem("maml", first_order=True)

    found = make_execution(name, learner).gradient(state, episodes)

    assert_same(found, make_execution("autograd", learner).gradient(state, episodes))


def test_chunks_and_a_shorter_last_one_add_up_to_the_whole() -> None:
    learner, state, episodes = a_problem("maml")
    mapped = make_execution(Strategy("vmap", chunk=2), learner)

    found = mapped.gradient(state, iter(episodes))

    assert_same(found, make_execution("autograd", learner).gradient(state, episodes))
    assert digest(found.grads) == digest(mapped.gradient(state, episodes).grads)


@pytest.mark.parametrize("name", ["autograd", "vmap", "constant_memory"])
def test_a_value_that_is_not_finite_is_named_with_its_episode(name: str) -> None:
    learner, state, episodes = a_problem("maml")
    bad = episodes[1]
    bad.query.inputs["image"].fill_(float("nan"))

    with pytest.raises(NumericsError, match=r"^episode=8: query loss is nan"):
        make_execution(name, learner).gradient(state, episodes, first=7)


@pytest.mark.parametrize("name", ["autograd", "vmap", "constant_memory"])
def test_an_adaptation_that_diverges_is_named_with_its_step(name: str) -> None:
    learner, state, episodes = a_problem("maml")
    episodes[2].support.inputs["image"].fill_(float("inf"))

    with pytest.raises(NumericsError, match=r"^episode=2: support loss is nan at inner step 1 of"):
        make_execution(name, learner).gradient(state, episodes)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("autograd", TINY_CONV4),
        ("constant_memory", TINY_CONV4),
        ("autograd", TINY_MLP),
        ("vmap", TINY_MLP),
    ],
)
def test_bfloat16_is_close_and_keeps_sums_in_float32(
    name: StrategyName, model: dict[str, Any]
) -> None:
    episodes = [classification_episode(seed=70 + i, dtype=torch.float32) for i in range(2)]
    learner = make_learner(
        episodes[0], model=model, learner={"name": "maml", "inner_lr": 0.01, "inner_steps": 2}
    )
    state = random_state(learner, dtype=torch.float32)
    exact = make_execution("autograd", learner).gradient(state, episodes)

    found = make_execution(Strategy(name, "bfloat16"), learner).gradient(state, episodes)

    assert digest(found.grads) != digest(exact.grads)
    for parameter, value in exact.grads.items():
        assert found.grads[parameter].dtype == torch.float32
        # rounding switches ReLUs and maxima, so that single gradients jump
        near = torch.cosine_similarity(found.grads[parameter].flatten(), value.flatten(), dim=0)
        assert float(near) > 0.8, parameter


class Looking(EpisodicLearner[Any]):
    """Branches on a value, without saying so."""

    Options = object

    def query_outputs(self, params: Any, support: Any, inputs: Any, context: Any) -> torch.Tensor:
        outputs = self.model.forward(params, inputs, context.normalise)
        return outputs * 2.0 if outputs.sum() > 0.0 else outputs


class SayingSo(Looking):
    is_traceable = False


def test_a_learner_that_looks_at_values_is_refused_before_anything_is_computed() -> None:
    learner, state, episodes = a_problem("maml")
    assert isinstance(learner, EpisodicLearner)
    looking, honest = (
        kind(object(), model=learner.model, problem=learner.problem) for kind in (Looking, SayingSo)
    )
    make_execution("autograd", looking).gradient(state, episodes)

    with pytest.raises(ConfigError, match="'Looking' cannot be mapped over episodes"):
        check_mapped(looking, state, episodes)
    with pytest.raises(ConfigError, match="'SayingSo' cannot be mapped over episodes; choose"):
        make_execution("vmap", honest)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("protonet", "does not adapt by inner steps"),
        ("imaml", "does not differentiate its inner steps"),
        ("reptile", "does not differentiate its inner steps"),
    ],
)
def test_constant_memory_is_refused_where_there_is_nothing_to_recompute(
    name: str, reason: str
) -> None:
    learner, _, _ = a_problem(name)
    with pytest.raises(ConfigError, match=reason):
        make_execution("constant_memory", learner)
