import pytest
import torch

from metafleet.episode import Episode, EpisodeShape, ExampleSet
from metafleet.errors import ConfigError, DataError, NumericsError
from metafleet.learners.gradient_steps import StepOptions
from metafleet.learners.maml import Maml, MamlOptions
from metafleet.learners.objective import apart, require_finite_gradients
from metafleet.learners.registry import LEARNERS, build_learner
from metafleet.models.registry import MODELS, model_factory
from metafleet.options import name_of
from metafleet.params import MetaState, digest
from metafleet.problem import Problem
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
    regression_episode,
)

MAML = {"name": "maml", "inner_lr": 0.3, "inner_steps": 2}
PROTONET = {"name": "protonet"}
NEAREST = {"name": "nearest_prototype"}


def relabelled(episode: Episode, permutation: torch.Tensor) -> Episode:
    support, query = (
        ExampleSet(part.inputs, permutation[part.targets])
        for part in (episode.support, episode.query)
    )
    return Episode(support, query, episode.n_way)


def test_relabelling_the_classes_permutes_the_head_of_maml_and_nothing_else() -> None:
    episode = classification_episode(seed=6)
    learner = make_learner(episode, model=TINY_CONV4, learner=MAML)
    state = random_state(learner)
    permutation = torch.tensor([2, 0, 1])
    inverse = torch.argsort(permutation)
    heads = {n: p[inverse] for n, p in state.params.items() if n.startswith("head.")}
    permuted = MetaState(state.params | heads, state.buffers)

    found = learner.episode_gradient(permuted, relabelled(episode, permutation))

    expected = learner.episode_gradient(state, episode)
    assert found.metrics[0].loss == pytest.approx(expected.metrics[0].loss, rel=1e-12)
    for name, value in expected.grads.items():
        moved = value[inverse] if name.startswith("head.") else value
        torch.testing.assert_close(found.grads[name], moved, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("learner", [MAML, PROTONET], ids=lambda o: o["name"])
def test_evaluation_equals_training_in_all_but_running_batch_norm(
    learner: dict[str, object],
) -> None:
    episode = classification_episode(seed=9)
    for batch_norm in ("transductive", "support", "none"):
        built = make_learner(
            episode, model=TINY_CONV4 | {"batch_norm": batch_norm}, learner=learner
        )
        state = random_state(built)
        assert built.batch_norm == batch_norm
        judged = built.evaluate(state, episode)
        trained = built.episode_gradient(state, episode).metrics[0]
        assert judged.loss == pytest.approx(trained.loss, rel=1e-12)
        assert judged.accuracy == trained.accuracy


def test_more_inner_steps_in_evaluation_lower_the_support_loss() -> None:
    episode = classification_episode(seed=12)
    few, many = (
        make_learner(episode, model=TINY_MLP, learner=MAML | {"inner_steps_eval": steps})
        for steps in (1, 20)
    )
    state = random_state(few)
    as_query = Episode(episode.support, episode.support, 3)

    assert many.evaluate(state, as_query).loss < few.evaluate(state, as_query).loss
    assert digest(many.episode_gradient(state, episode).grads) == digest(
        few.episode_gradient(state, episode).grads
    )


def test_protonet_takes_other_n_ways_than_it_was_trained_with() -> None:
    problem = Problem(
        {"image": (2, 8, 8)},
        0,
        {"meta_train": EpisodeShape(6, 1, 2), "meta_test": EpisodeShape(3, 1, 2)},
    )
    learner = build_learner(PROTONET, problem, model_factory(TINY_CONV4, problem))
    state = random_state(learner)
    for n_way in (6, 3):
        episode = classification_episode(EpisodeShape(n_way, 1, 2))
        assert learner.predict(state, episode.support, episode.query.inputs, n_way).shape == (
            2 * n_way,
            n_way,
        )


def test_maml_refuses_splits_that_differ_in_n_way() -> None:
    problem = Problem(
        {"image": (2, 8, 8)},
        0,
        {"meta_train": EpisodeShape(6, 1, 2), "meta_test": EpisodeShape(3, 1, 2)},
    )
    with pytest.raises(ConfigError, match="meta_train has n_way=6, meta_test has n_way=3"):
        build_learner(MAML, problem, model_factory(TINY_CONV4, problem))


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_a_misfit_is_reported_under_the_learners_configured_name(name: str) -> None:
    shapes = {"meta_train": EpisodeShape(6, 1, 2), "meta_test": EpisodeShape(3, 1, 2)}
    uneven = Problem({"image": (2, 8, 8)}, 0, shapes)
    regression = Problem({"image": (2, 8, 8)}, 1, {"meta_train": EpisodeShape(0, 1, 2)})
    told = []

    for problem in (uneven, regression):
        make_model = model_factory(TINY_CONV4 | {"batch_norm": "running"}, problem)
        try:
            build_learner({"name": name}, problem, make_model)
        except ConfigError as error:
            told.append(str(error))

    assert told
    assert all(f"learner {name!r} " in message for message in told)


def test_a_custom_learner_is_not_named_after_its_base() -> None:
    class Mine(Maml):
        pass

    assert [name_of(found) for found in LEARNERS.values()] == list(LEARNERS)
    assert [name_of(found) for found in MODELS.values()] == list(MODELS)
    assert name_of(Mine) == "Mine"


@pytest.mark.parametrize("learner", [PROTONET, NEAREST], ids=lambda o: o["name"])
def test_prototypes_refuse_regression(learner: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="target_dim=2"):
        make_learner(regression_episode(), model=TINY_MLP, learner=learner)


def test_a_class_without_support_is_named() -> None:
    episode = classification_episode(seed=14)
    learner = make_learner(episode, model=TINY_CONV4, learner=PROTONET)
    support = ExampleSet(episode.support.inputs, torch.tensor([0, 0, 0, 2, 2, 2]))
    with pytest.raises(DataError, match="no example of class 1 of 3"):
        learner.predict(random_state(learner), support, episode.query.inputs, 3)


def test_a_diverging_adaptation_names_the_inner_step_and_inner_lr() -> None:
    episode = regression_episode(dtype=torch.float32)
    learner = make_learner(episode, model=TINY_MLP, learner=MAML | {"inner_lr": 1e18})
    state = random_state(learner, dtype=torch.float32)
    for call in (learner.episode_gradient, learner.evaluate):
        with pytest.raises(NumericsError, match=r"inner step 2 of 2 with inner_lr=1e\+18"):
            call(state, episode)


@pytest.mark.parametrize("learner", [MAML, PROTONET, NEAREST], ids=lambda o: o["name"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_never_give_a_gradient(
    learner: dict[str, object], poison: float
) -> None:
    episode = classification_episode(seed=15)
    episode.query.inputs["image"][1, 0, 0, 0] = poison
    built = make_learner(episode, model=TINY_CONV4, learner=learner)
    state = random_state(built)
    for call in (built.episode_gradient, built.evaluate):
        with pytest.raises(NumericsError, match=r"is nan|is inf"):
            call(state, episode)


def test_a_gradient_that_is_not_finite_is_named_even_when_the_loss_is() -> None:
    params = {"fine": torch.ones(2, requires_grad=True), "root": torch.zeros(2, requires_grad=True)}
    loss = (params["fine"] + params["root"].sqrt()).sum()
    grads = dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
    with pytest.raises(NumericsError, match=r"gradient of 'root' is not finite .* loss is 2\.0"):
        require_finite_gradients(grads, loss)


def test_gradients_that_autograd_puts_in_one_tensor_are_taken_apart() -> None:
    params = {name: torch.rand(3, requires_grad=True) for name in ("a", "b")}
    loss = (params["a"] + params["b"]).square().sum()
    raw = torch.autograd.grad(loss, list(params.values()), retain_graph=True)
    assert raw[0].data_ptr() == raw[1].data_ptr()

    grads = apart(dict(zip(params, raw, strict=True)))

    assert grads["a"].data_ptr() != grads["b"].data_ptr()
    assert torch.equal(grads["a"], raw[0])
    assert torch.equal(grads["b"], raw[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mamml"}, "unknown learner 'mamml'; expected one of 'anil', "),
        ({}, "learner name=None; expected one of"),
        ({"name": "maml", "inner_lr": 0.0}, "learner 'maml': inner_lr=0.0; expected more than 0"),
        ({"name": "maml", "inner_lr": float("nan")}, "inner_lr=nan; expected a finite number"),
        ({"name": "maml", "inner_lr": "0.4"}, "inner_lr='0.4'; expected a finite number"),
        ({"name": "maml", "inner_steps": 0}, "inner_steps=0; expected 1 or more"),
        ({"name": "maml", "inner_steps": 1.5}, "inner_steps=1.5; expected a whole number"),
        ({"name": "maml", "inner_steps": True}, "inner_steps=True; expected a whole number"),
        ({"name": "maml", "inner_steps_eval": 0}, "inner_steps_eval=0; expected 1 or more"),
        ({"name": "maml", "first_order": 1}, "first_order=1; expected true or false"),
        ({"name": "maml", "steps": 3}, "has no option 'steps'; its options are: first_order, "),
        ({"name": "protonet", "lr": 3}, "has no option 'lr'; its options are: none"),
    ],
)
def test_a_wrong_learner_option_is_named_with_what_was_expected(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        LEARNERS.resolve(options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", [n for n in LEARNERS if issubclass(LEARNERS[n].Options, StepOptions)]
)
def test_options_refuse_what_the_options_do_that_they_are_derived_from(name: str) -> None:
    options = LEARNERS[name].Options
    with pytest.raises(ConfigError, match="inner_weight_decay=-1"):
        options(inner_weight_decay=-1.0)
    with pytest.raises(ConfigError, match="inner_steps=0"):
        options(inner_steps=0)
    if issubclass(options, MamlOptions):
        with pytest.raises(ConfigError, match="inner_lr=0"):
            options(inner_lr=0.0)
