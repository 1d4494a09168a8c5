"""Learners of items with several labels: equations by hand, gradients, and who takes them."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torch import Tensor

from metafleet.episode import Episode, EpisodeShape, ExampleSet
from metafleet.errors import ConfigError, DataError
from metafleet.execution import Strategy, make_execution
from metafleet.learners.base import Learner
from metafleet.learners.registry import LEARNERS, build_learner
from metafleet.models.registry import model_factory
from metafleet.params import MetaState
from metafleet.problem import Problem
from tests.unit.metafleet.few_shot import TINY_MLP, random_state
from tests.unit.metafleet.finite_differences import assert_matches_finite_differences, slope
from tests.unit.metafleet.learners.small import SMALL
from tests.unit.metafleet.learners.test_metric_learners import embed

ABLE = [name for name, kind in LEARNERS.items() if getattr(kind, "takes_several_labels", False)]
N_WAY = 3


def labelled_episode(seed: int = 0, dtype: torch.dtype = torch.float64) -> Episode:
    """Draw items whose features are the sum of those of their labels, with every label there."""
    generator = torch.Generator().manual_seed(seed)
    means = 2.0 * torch.randn(N_WAY, 4, generator=generator, dtype=torch.float64)

    def examples(n: int) -> ExampleSet:
        targets = (torch.rand(n, N_WAY, generator=generator) < 0.4).double()
        targets[:N_WAY] = torch.maximum(targets[:N_WAY], torch.eye(N_WAY, dtype=torch.float64))
        targets[N_WAY] = 0.0
        noise = torch.randn(n, 4, generator=generator, dtype=torch.float64)
        return ExampleSet({"x": (targets @ means + noise).to(dtype)}, targets.to(torch.float32))

    return Episode(examples(8), examples(7), N_WAY)


def problem(separator: str = ";") -> Problem:
    shape = EpisodeShape(N_WAY, 2, 2)
    return Problem({"x": (4,)}, 0, {"meta_train": shape}, label_separator=separator)


def made(name: str, separator: str = ";") -> Learner:
    gentle = {"inner_lr": 0.02, "inner_steps": 2, "inner_steps_eval": 3}
    fields = LEARNERS[name].Options.__dataclass_fields__
    options = {k: v for k, v in gentle.items() if k in fields} | SMALL.get(name, {})
    make_model = model_factory(TINY_MLP, problem(separator))
    return build_learner({"name": name, **options}, problem(separator), make_model)


def test_prototypes_are_the_equation() -> None:
    episode, learner = labelled_episode(), made("multilabel_protonet")
    state = random_state(learner)
    params = state.params

    found = learner.predict(state, episode.support, episode.query.inputs, N_WAY)

    support = embed(params, episode.support.inputs["x"])
    query = embed(params, episode.query.inputs["x"])
    expected = torch.zeros_like(found)
    for label in range(N_WAY):
        has = episode.support.targets[:, label] > 0
        nearer = (query - support[has].mean(dim=0)).square().sum(dim=1)
        further = (query - support[~has].mean(dim=0)).square().sum(dim=1)
        scale, bias = params["comparison.log_scale"].exp(), params["comparison.bias"]
        expected[:, label] = scale * (further - nearer) + bias
    torch.testing.assert_close(found, expected)


def test_a_label_that_every_support_item_has_gives_the_bias() -> None:
    episode, learner = labelled_episode(), made("multilabel_protonet")
    state = random_state(learner)
    targets = episode.support.targets.clone()
    targets[:, 1] = 1.0

    support = ExampleSet(episode.support.inputs, targets)
    found = learner.predict(state, support, episode.query.inputs, N_WAY)

    bias = state.params["comparison.bias"].expand(len(found))
    torch.testing.assert_close(found[:, 1], bias)
    assert bool(found.isfinite().all())


def test_a_label_without_an_item_is_refused() -> None:
    episode, learner = labelled_episode(), made("multilabel_protonet")
    targets = episode.support.targets.clone()
    targets[:, 2] = 0.0

    with pytest.raises(DataError, match="no item with label 2 of 3; give at least one"):
        learner.predict(
            random_state(learner),
            ExampleSet(episode.support.inputs, targets),
            episode.query.inputs,
            N_WAY,
        )


def test_those_that_take_several_labels_are_known() -> None:
    assert {"multilabel_protonet", "maml", "anil", "boil", "meta_sgd"} <= set(ABLE)
    assert not {"protonet", "protomaml", "r2d2", "reptile", "nearest_prototype"} & set(ABLE)


@pytest.mark.parametrize("name", sorted({*ABLE} - {"multilabel_protonet"}))
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    assert_matches_finite_differences(made(name), labelled_episode(seed=3))


def test_the_gradient_of_prototypes_is_that_of_finite_differences() -> None:
    learner, episode = made("multilabel_protonet"), labelled_episode(seed=3)
    state = random_state(learner)
    grads = learner.episode_gradient(state, episode).grads
    vanishing = {"layer1.bias"}  # moves all embeddings alike, so no distance

    assert {n for n, grad in grads.items() if float(grad.abs().max()) < 1e-9} == vanishing
    for name in state.params:
        along = {n: torch.zeros_like(p) for n, p in state.params.items()}
        along[name] = torch.ones_like(along[name])
        expected = slope(learner, state, episode, along)
        assert float(grads[name].sum()) == pytest.approx(expected, rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("name", ABLE)
def test_loss_and_score_are_those_of_torch_and_scikit_learn(name: str) -> None:
    episode, learner = labelled_episode(seed=4), made(name)
    state, query = random_state(learner), episode.query

    metrics = learner.evaluate(state, episode)

    outputs = learner.predict(state, episode.support, query.inputs, N_WAY)
    wanted = F.binary_cross_entropy(outputs.sigmoid(), query.targets.double())
    assert metrics.loss == pytest.approx(float(wanted))
    score = average_precision_score(query.targets, outputs, average="macro")
    assert metrics.accuracy == pytest.approx(score, abs=1e-9)


@pytest.mark.parametrize("name", ABLE)
def test_the_inner_loss_is_binary_cross_entropy(name: str) -> None:
    learner = made(name)
    outputs = torch.tensor([[2.0, -1.0, 0.5]])
    targets = torch.tensor([[1.0, 0.0, 1.0]])

    found = learner.loss(outputs, targets)  # type: ignore[attr-defined]

    by_hand = -(_log(2.0) + _log(1.0) + _log(0.5)) / 3
    assert float(found) == pytest.approx(by_hand)


def _log(logit: float) -> float:
    return float(torch.tensor(logit).sigmoid().log())


@pytest.mark.parametrize("name", ["multilabel_protonet", "maml"])
def test_mapped_episodes_give_the_same_gradient_and_score(name: str) -> None:
    learner, episodes = made(name), [labelled_episode(seed=s, dtype=torch.float32) for s in (1, 2)]
    state = learner.init_state(1)

    plain, mapped = (
        make_execution(strategy, learner, device="cpu", cache_dir=None).gradient(state, episodes)
        for strategy in (Strategy("autograd"), Strategy("vmap", chunk=2))
    )

    for one, other in zip(plain.metrics, mapped.metrics, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-4)
        assert other.accuracy == pytest.approx(one.accuracy)
    _assert_close(plain.grads, mapped.grads)


def _assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["protonet", "r2d2", "cnp", "nearest_prototype"])
def test_a_learner_of_one_class_an_item_says_which_take_several(name: str) -> None:
    with pytest.raises(ConfigError, match=r"takes one class an item, but .* choose one of 'anil'"):
        made(name)


def test_with_one_class_an_item_it_classifies() -> None:
    learner = made("multilabel_protonet", separator="")
    episode = labelled_episode()
    one = ExampleSet(episode.support.inputs, episode.support.targets.argmax(dim=1))

    state: MetaState = random_state(learner)
    found = learner.predict(state, one, episode.query.inputs, N_WAY)

    hot = ExampleSet(one.inputs, F.one_hot(one.targets, N_WAY).float())
    expected = made("multilabel_protonet").predict(state, hot, episode.query.inputs, N_WAY)
    torch.testing.assert_close(found, expected)
