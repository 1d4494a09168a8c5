"""What every learner of the registry keeps to. A new one is tested without a line here.

A learner that is slow at its default sizes gets a line in ``small.py``; one whose answers depend on
the order of the support set, or on which class has which number, gets one in the exceptions below.
"""

import typing
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from metafleet.episode import Episode, ExampleSet
from metafleet.errors import ConfigError, MetafleetError
from metafleet.learners.gradient_steps import GradientSteps
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.learners.memory import memorise, predict_from
from metafleet.learners.registry import LEARNERS
from metafleet.models.batch_norm import MODES
from metafleet.params import MetaState, Params, digest
from tests.learning_cases import NAMED
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    TINY_MLP,
    classification_episode,
    random_state,
    regression_episode,
)
from tests.unit.metafleet.finite_differences import assert_matches_finite_differences, slope
from tests.unit.metafleet.learners.small import (
    DIFFERENTIATED,
    HAVING_FIRST_ORDER,
    PLAIN,
    made,
)

READS_IN_ORDER = {"mann", "mmaml", "snail"}
KNOWS_CLASSES_APART = {*READS_IN_ORDER, "anp", "cnp"}
EACH = pytest.mark.parametrize("name", LEARNERS)
EACH_PLAIN = pytest.mark.parametrize("name", PLAIN)


def takes(name: str, episode: Episode, model: dict[str, Any] = TINY_MLP) -> bool:
    try:
        made(name, episode, model)
    except ConfigError:
        return False
    return True


def with_norm(mode: str) -> dict[str, Any]:
    return TINY_CONV4 | {"batch_norm": mode, "pooled_blocks": 1}


CLASSES, VALUES = classification_episode(seed=3), regression_episode(seed=4)
NORMED = [(n, mode) for n in LEARNERS for mode in MODES if takes(n, CLASSES, with_norm(mode))]
REGRESSING = [name for name in LEARNERS if takes(name, VALUES)]


def test_learned_step_sizes_are_those_of_the_learners_that_learn_them() -> None:
    having = {
        name
        for name in LEARNERS
        if takes(name, CLASSES)
        and isinstance(learner := made(name, CLASSES), GradientSteps)
        and learner.inner_rates(random_state(learner).params)
    }

    assert having == {"meta_sgd", "maml_plus_plus"}


INNER = [(n, mode) for n, mode in NORMED if issubclass(LEARNERS[n], InnerLoopLearner)]


@pytest.mark.parametrize(("name", "mode"), INNER)
def test_inner_metrics_end_with_those_of_the_evaluation(name: str, mode: str) -> None:
    learner: Any = made(name, CLASSES, with_norm(mode))
    state = random_state(learner)

    found = learner.inner_metrics(state, CLASSES)

    assert len(found) == learner.n_steps(is_training=False) + 1 >= 2
    assert found[-1][1] == learner.evaluate(state, CLASSES)


def test_the_contract_is_that_of_many() -> None:
    assert {"maml", "anil", "boil", "protonet", "cnp"} <= set(DIFFERENTIATED)
    assert {"maml", "snail", "reptile"} <= set(REGRESSING)
    assert {("maml", "per_step"), ("protonet", "frozen")} <= set(NORMED)
    assert {"maml", "anil", "boil", "meta_sgd", "protomaml"} <= set(HAVING_FIRST_ORDER)


class TestGradient:
    @pytest.mark.parametrize(("name", "mode"), [c for c in NORMED if c[0] in DIFFERENTIATED])
    def test_is_that_of_finite_differences(self, name: str, mode: str) -> None:
        assert_matches_finite_differences(made(name, CLASSES, with_norm(mode)), CLASSES)

    @pytest.mark.parametrize("name", [name for name in REGRESSING if name in DIFFERENTIATED])
    def test_of_values_is_that_of_finite_differences(self, name: str) -> None:
        assert_matches_finite_differences(made(name, VALUES), VALUES)

    @pytest.mark.parametrize("name", HAVING_FIRST_ORDER)
    def test_of_first_order_takes_slopes_as_constants(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        learner = made(name, CLASSES, first_order=True)
        state, noted = random_state(learner), []
        differentiate = type(learner).support_gradient

        def noting(*args: Any, **options: Any) -> Params:
            noted.append(differentiate(*args, **options))
            return noted[-1]

        monkeypatch.setattr(type(learner), "support_gradient", noting)
        grads = learner.episode_gradient(state, CLASSES).grads
        slopes = list(noted)
        assert slopes

        def repeating(self: Any, *_: Any, **__: Any) -> Params:
            noted.append({})
            return slopes[(len(noted) - 1) % len(slopes)]

        noted.clear()
        monkeypatch.setattr(type(learner), "support_gradient", repeating)
        generator = torch.Generator().manual_seed(5)
        along = {
            n: torch.randn(p.shape, generator=generator, dtype=p.dtype)
            for n, p in state.params.items()
        }
        found = sum(float((grads[n] * v).sum()) for n, v in along.items())
        assert found == pytest.approx(slope(learner, state, CLASSES, along), rel=1e-5)

    @EACH_PLAIN
    def test_has_the_same_bits_each_time_whatever_came_before(self, name: str) -> None:
        first, again = made(name, CLASSES), made(name, CLASSES)
        state = random_state(first)
        expected = first.episode_gradient(state, CLASSES)
        again.episode_gradient(state, classification_episode(seed=9))
        again.evaluate(state, classification_episode(seed=8))

        with torch.no_grad():  # as a caller may have it
            found = again.episode_gradient(state, CLASSES)

        assert found.grads.keys() == state.params.keys()
        assert digest(found.grads) == digest(expected.grads)
        assert digest(found.buffers) == digest(expected.buffers)
        assert found.metrics == expected.metrics

    @EACH_PLAIN
    def test_leaves_state_episode_and_generator_alone(self, name: str) -> None:
        episode = classification_episode(seed=10)
        learner = made(name, episode, with_norm("running"))
        state = random_state(learner)
        before, random = _bits(state, episode), torch.random.get_rng_state()

        grads = learner.episode_gradient(state, episode).grads
        learner.evaluate(state, episode)

        assert _bits(state, episode) == before
        assert torch.equal(torch.random.get_rng_state(), random)
        assert not any(t.requires_grad for t in (*state.params.values(), *grads.values()))


class TestPrediction:
    @EACH_PLAIN
    def test_is_what_evaluation_judges(self, name: str) -> None:
        learner = made(name, CLASSES)
        state = random_state(learner)

        outputs = learner.predict(state, CLASSES.support, CLASSES.query.inputs, 3)

        assert outputs.shape == (6, 3)
        assert bool(torch.isfinite(outputs).all()) and float(outputs.std()) > 0
        right = (outputs.argmax(dim=1) == CLASSES.query.targets).double().mean()
        assert learner.evaluate(state, CLASSES).accuracy == pytest.approx(float(right))

    @pytest.mark.parametrize(("name", "mode"), NORMED)
    def test_from_memory_is_that_of_predict(self, name: str, mode: str) -> None:
        self._assert_remembers(made(name, CLASSES, with_norm(mode)), CLASSES)

    @pytest.mark.parametrize("name", REGRESSING)
    def test_of_values_from_memory_is_that_of_predict(self, name: str) -> None:
        self._assert_remembers(made(name, VALUES), VALUES)

    def _assert_remembers(self, learner: Any, episode: Episode) -> None:
        state, inputs = random_state(learner), episode.query.inputs
        memory = memorise(learner, state, episode.support, episode.n_way)

        found = predict_from(learner, state, memory, inputs, episode.n_way)

        expected = learner.predict(state, episode.support, inputs, episode.n_way)
        assert expected.std() > 0
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("name", sorted(LEARNERS.keys() - READS_IN_ORDER - NAMED))
    def test_does_not_depend_on_the_order_of_the_support_set(self, name: str) -> None:
        outputs = _answer(name, order=torch.arange(6))
        shuffled = _answer(name, order=torch.tensor([4, 0, 5, 2, 1, 3]))

        torch.testing.assert_close(shuffled, outputs, rtol=1e-5, atol=1e-7)
        assert float(outputs.std(dim=0).min()) > 1e-4

    @pytest.mark.parametrize("name", sorted(LEARNERS.keys() - KNOWS_CLASSES_APART - NAMED))
    def test_of_renamed_classes_is_renamed(self, name: str) -> None:
        permutation = torch.tensor([2, 0, 1])
        outputs = _answer(name, order=torch.arange(6))
        renamed = _answer(name, order=torch.arange(6), permutation=permutation)

        torch.testing.assert_close(renamed[:, permutation], outputs, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(renamed, outputs)


class TestOptions:
    @EACH
    def test_are_a_frozen_dataclass_with_defaults(self, name: str) -> None:
        options = LEARNERS[name].Options

        assert LEARNERS.resolve({"name": name})[1] == options()
        assert options.__dataclass_params__.frozen  # type: ignore[attr-defined]

    @EACH
    def test_that_are_wrong_are_named_in_one_line(self, name: str) -> None:
        self._assert_refused(name, "no_such_option", 1)
        hints = typing.get_type_hints(LEARNERS[name].Options)
        for option, hint in hints.items():
            self._assert_refused(name, option, [object()])
            if {int, float} & {hint, *typing.get_args(hint)}:
                self._assert_refused(name, option, -1)
                self._assert_refused(name, option, "1")
                self._assert_refused(name, option, float("nan"))

    def _assert_refused(self, name: str, option: str, value: object) -> None:
        with pytest.raises(ConfigError) as caught:
            LEARNERS.resolve({"name": name, option: value})
        message = str(caught.value)
        assert message.startswith(f"learner {name!r}") and option in message
        assert "\n" not in message

    @EACH
    def test_that_do_not_fit_the_data_or_the_model_are_named(self, name: str) -> None:
        cases: list[Callable[[], Any]] = [lambda: made(name, VALUES)]
        cases += [lambda mode=mode: made(name, CLASSES, with_norm(mode)) for mode in MODES]
        for build in cases:
            try:
                build()
            except MetafleetError as error:
                assert f"learner {name!r}" in str(error) and "\n" not in str(error)


def _bits(state: MetaState, episode: Episode) -> list[str]:
    parts = [dict(part.inputs) | {"y": part.targets} for part in (episode.support, episode.query)]
    return [digest(tensors) for tensors in (state.params, state.buffers, *parts)]


def _answer(name: str, *, order: Tensor, permutation: Tensor | None = None) -> Tensor:
    """Predict the queries, the support set in another order and its classes renamed."""
    learner = made(name, CLASSES)
    first = learner.init_state(1)
    params = {n: v.double() for n, v in first.params.items()}
    targets = CLASSES.support.targets
    if permutation is not None:
        targets = permutation[targets]
        heads = learner.model.head if isinstance(learner, InnerLoopLearner) else ()
        for head in heads & params.keys() if heads else ():  # row k is now row permutation[k]
            params[head] = torch.empty_like(params[head]).index_copy(0, permutation, params[head])
    inputs = {n: x[order] for n, x in CLASSES.support.inputs.items()}
    support = ExampleSet(inputs, targets[order])
    state = MetaState(params, first.buffers)
    return learner.predict(state, support, CLASSES.query.inputs, CLASSES.n_way)
