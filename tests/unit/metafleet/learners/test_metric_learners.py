"""Learners that compare embeddings, each against its equation written out by hand."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from metafleet.episode import Episode, EpisodeShape, ExampleSet
from metafleet.errors import ConfigError
from metafleet.learners.r2d2 import logistic_weights, ridge_weights
from metafleet.params import Params
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
)
from tests.unit.metafleet.finite_differences import assert_matches_finite_differences

MATCHING = {"name": "matchingnet", "scale": 3.0}
FULL_CONTEXT = MATCHING | {"context_steps": 2}
RELATION = {"name": "relationnet", "hidden": 5}
RIDGE = {"name": "r2d2", "penalty": 0.7, "scale": 2.0}
LOGISTIC = RIDGE | {"head": "logistic", "newton_steps": 3}
SVM = {"name": "metaoptnet", "bound": 0.4, "scale": 1.5}
ALL = {
    "matching": MATCHING,
    "full context": FULL_CONTEXT,
    "relation": RELATION,
    "ridge": RIDGE,
    "logistic": LOGISTIC,
    "svm": SVM,
}
VECTORS = {"x": (3,)}


def embed(params: Params, x: Tensor) -> Tensor:
    """Do as ``TINY_MLP`` without a head."""
    x = torch.clamp(x @ params["layer0.weight"].T + params["layer0.bias"], 0)
    return x @ params["layer1.weight"].T + params["layer1.bias"]


def predicted(
    learner_options: dict[str, object], episode: Episode
) -> tuple[Tensor, Params, Tensor, Tensor]:
    """Return the learner's query outputs, its params, and both embeddings, computed apart."""
    learner = make_learner(episode, model=TINY_MLP, learner=learner_options)
    state = random_state(learner)
    outputs = learner.predict(state, episode.support, episode.query.inputs, episode.n_way)
    support, query = (embed(state.params, s.inputs["x"]) for s in (episode.support, episode.query))
    return outputs, state.params, support, query


@pytest.fixture
def episode() -> Episode:
    return classification_episode(modalities=VECTORS)


@pytest.mark.parametrize("options", ALL.values(), ids=ALL.keys())
def test_gradients_match_finite_differences(options: dict[str, object], episode: Episode) -> None:
    assert_matches_finite_differences(
        make_learner(episode, model=TINY_MLP, learner=options), episode
    )


@pytest.mark.parametrize("batch_norm", ["transductive", "support", "running"])
def test_relations_of_feature_maps_match_finite_differences(batch_norm: str) -> None:
    episode = classification_episode()
    model = TINY_CONV4 | {"batch_norm": batch_norm, "pooled_blocks": 1}
    learner = make_learner(episode, model=model, learner=RELATION)

    state = learner.init_state(1)
    assert state.params["relation.block0.conv.weight"].shape == (3, 6, 3, 3)
    assert_matches_finite_differences(learner, episode)


def test_matching_weighs_the_support_sets_classes_by_cosines(episode: Episode) -> None:
    outputs, _, support, query = predicted(MATCHING, episode)

    for row, x in zip(outputs, query, strict=True):
        weights = [math.exp(3.0 * float(torch.cosine_similarity(x, s, dim=0))) for s in support]
        shares = [0.0] * episode.n_way
        for weight, target in zip(weights, episode.support.targets.tolist(), strict=True):
            shares[target] += weight / sum(weights)
        torch.testing.assert_close(row.exp(), torch.tensor(shares, dtype=torch.float64))


def cell(params: Params, name: str, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    gates = x @ params[f"{name}.input"] + h @ params[f"{name}.hidden"] + params[f"{name}.bias"]
    d = len(c)
    i, f, g, o = gates[:d], gates[d : 2 * d], gates[2 * d : 3 * d], gates[3 * d :]
    c = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def read(params: Params, name: str, xs: list[Tensor]) -> list[Tensor]:
    h, c, seen = torch.zeros_like(xs[0]), torch.zeros_like(xs[0]), []
    for x in xs:
        h, c = cell(params, name, x, h, c)
        seen.append(h)
    return seen


def test_full_context_reads_the_support_set_both_ways_and_attends(episode: Episode) -> None:
    outputs, params, support, query = predicted(FULL_CONTEXT, episode)
    rows = list(support)
    there = read(params, "context.forward", rows)
    back = read(params, "context.backward", rows[::-1])[::-1]
    g = torch.stack([a + b + x for a, b, x in zip(there, back, rows, strict=True)])

    for row, x in zip(outputs, query, strict=True):
        h, c = torch.zeros_like(x), torch.zeros_like(x)
        for _ in range(2):
            r = torch.softmax(g @ h, dim=0) @ g
            moved, c = cell(params, "context.read", x, torch.cat([h, r]), c)
            h = moved + x
        weights = torch.softmax(3.0 * torch.stack([torch.cosine_similarity(h, s, 0) for s in g]), 0)
        expected = [weights[episode.support.targets == k].sum() for k in range(episode.n_way)]
        torch.testing.assert_close(row.exp(), torch.stack(expected))


def test_relations_are_of_class_sums_and_the_loss_is_squared(episode: Episode) -> None:
    outputs, params, support, query = predicted(RELATION, episode)

    def score(class_index: int, x: Tensor) -> Tensor:
        total = support[episode.support.targets == class_index].sum(dim=0)
        pair = torch.cat([total, x])
        hidden = params["relation.hidden.weight"] @ pair + params["relation.hidden.bias"]
        return params["relation.score.weight"] @ hidden.clamp(0) + params["relation.score.bias"]

    expected = torch.stack([torch.cat([score(k, x) for k in range(3)]) for x in query])
    torch.testing.assert_close(outputs, expected)

    learner = make_learner(episode, model=TINY_MLP, learner=RELATION)
    loss = learner.evaluate(random_state(learner), episode).loss
    wanted = torch.nn.functional.one_hot(episode.query.targets, 3)
    assert loss == pytest.approx(float((torch.sigmoid(expected) - wanted).square().mean()))


def test_ridge_weights_are_those_of_the_primal_problem(episode: Episode) -> None:
    outputs, params, support, query = predicted(RIDGE, episode)
    penalty = params["ridge.log_penalty"].exp()
    wanted = torch.nn.functional.one_hot(episode.support.targets, 3).double()
    normal = support.T @ support + penalty * torch.eye(support.shape[1], dtype=torch.float64)
    weights = torch.linalg.inv(normal) @ support.T @ wanted

    torch.testing.assert_close(ridge_weights(support, wanted, penalty), weights)
    torch.testing.assert_close(outputs, params["ridge.scale"] * (query @ weights))


def test_logistic_weights_take_newton_steps_to_the_minimum() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    y = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 1, 2, 2])).double()
    penalty = torch.tensor(0.5, dtype=torch.float64)

    first = torch.zeros(4, 3, dtype=torch.float64)
    for column in range(3):  # one Newton step from 0, in the primal
        hessian = 0.25 * x.T @ x + penalty * torch.eye(4, dtype=torch.float64)
        first[:, column] = torch.linalg.solve(hessian, x.T @ (y[:, column] - 0.5))
    torch.testing.assert_close(logistic_weights(x, y, penalty, n_steps=1), first)

    found = logistic_weights(x, y, penalty, n_steps=20)
    slope = x.T @ (torch.sigmoid(x @ found) - y) + penalty * found
    assert float(slope.abs().max()) < 1e-10


@pytest.mark.parametrize("weights_of", [ridge_weights, partial(logistic_weights, n_steps=12)])
def test_few_and_many_features_give_the_same_weights(weights_of: Callable[..., Tensor]) -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    y = torch.nn.functional.one_hot(torch.arange(12) % 3).double()
    penalty = torch.tensor(0.1, dtype=torch.float64)

    found = weights_of(x, y, penalty)
    more = weights_of(torch.nn.functional.pad(x, (0, 16)), y, penalty)  # zeros change nothing

    torch.testing.assert_close(more[:4], found, rtol=1e-9, atol=1e-12)
    assert not more[4:].any()


class _Largest(TorchDispatchMode):
    """Records how many numbers the largest tensor of a computation has."""

    n_numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor):
            self.n_numbers = max(self.n_numbers, found.numel())
        return found


@pytest.mark.parametrize(
    ("weights_of", "n", "d", "n_way", "most"),
    [
        (ridge_weights, 3_000, 8, 4, 3_000 * 8),
        (partial(logistic_weights, n_steps=1), 1_000, 8, 50, 1_000 * 8 * 50),
        (partial(logistic_weights, n_steps=1), 300, 400, 200, 2**24),
    ],
)
def test_many_examples_and_classes_take_little_memory(
    weights_of: Callable[..., Tensor], n: int, d: int, n_way: int, most: int
) -> None:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    y = torch.nn.functional.one_hot(torch.arange(n) % n_way).double()
    penalty = torch.tensor(0.5, dtype=torch.float64)

    with _Largest() as largest:
        found = weights_of(x, y, penalty)

    assert largest.n_numbers <= most
    alone = weights_of(x, y[:, -1:], penalty)
    torch.testing.assert_close(found[:, -1:], alone)


def test_the_logistic_head_takes_its_newton_steps(episode: Episode) -> None:
    outputs, params, x, query = predicted(LOGISTIC, episode)
    penalty = params["ridge.log_penalty"].exp()
    y = torch.nn.functional.one_hot(episode.support.targets, 3).double()

    weights = torch.zeros(x.shape[1], 3, dtype=torch.float64)
    for _ in range(3):
        mu = torch.sigmoid(x @ weights)
        for k in range(3):  # in the primal, each class for itself
            curved = x.T @ torch.diag(mu[:, k] * (1 - mu[:, k])) @ x
            curved = curved + penalty * torch.eye(len(curved), dtype=torch.float64)
            slope = x.T @ (mu[:, k] - y[:, k]) + penalty * weights[:, k]
            weights[:, k] = weights[:, k] - torch.linalg.solve(curved, slope)

    torch.testing.assert_close(outputs, params["ridge.scale"] * (query @ weights))


def test_svm_scores_are_the_duals(episode: Episode) -> None:
    outputs, params, support, query = predicted(SVM, episode)
    dual = brute_force_dual(support @ support.T, episode.support.targets, bound=0.4)

    expected = params["svm.scale"] * (query @ support.T @ dual)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-4)


def brute_force_dual(gram: Tensor, targets: Tensor, *, bound: float) -> Tensor:
    """Minimise Crammer and Singer's dual by projected gradients, slowly and surely."""
    wanted = torch.nn.functional.one_hot(targets).double()
    spread = torch.full_like(wanted, bound / wanted.shape[1])  # C Y - a
    rate = 1.0 / float(torch.linalg.eigvalsh(gram)[-1])
    for _ in range(20_000):
        slope = gram @ (spread - bound * wanted) + wanted
        spread = torch.stack([onto_simplex(row, bound) for row in spread - rate * slope])
    return bound * wanted - spread


def onto_simplex(row: Tensor, total: float) -> Tensor:
    """Project onto what is >= 0 and sums to ``total`` (Duchi et al. 2008)."""
    ordered = row.sort(descending=True).values
    excess = (ordered.cumsum(0) - total) / torch.arange(1, len(row) + 1)
    n = int((ordered > excess).sum())
    return (row - excess[n - 1]).clamp(min=0)


@pytest.mark.parametrize("options", ALL.values(), ids=ALL.keys())
def test_renaming_classes_renames_outputs(options: dict[str, object], episode: Episode) -> None:
    learner = make_learner(episode, model=TINY_MLP, learner=options)
    state, renamed = random_state(learner), torch.tensor([2, 0, 1])
    other = ExampleSet(episode.support.inputs, renamed[episode.support.targets])

    plain = learner.predict(state, episode.support, episode.query.inputs, 3)
    found = learner.predict(state, other, episode.query.inputs, 3)

    torch.testing.assert_close(found[:, renamed], plain)


@pytest.mark.parametrize("options", ALL.values(), ids=ALL.keys())
def test_episodes_may_have_more_classes_than_were_trained_with(options: dict[str, object]) -> None:
    small = classification_episode(modalities=VECTORS)
    large = classification_episode(EpisodeShape(5, 1, 2), modalities=VECTORS)
    learner = make_learner(small, model=TINY_MLP, learner=options)

    outputs = learner.predict(random_state(learner), large.support, large.query.inputs, 5)

    assert outputs.shape == (10, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (MATCHING | {"scale": 0.0}, "scale=0.0; expected more than 0"),
        (RELATION | {"hidden": 0}, "hidden=0; expected 1 or more"),
        (RIDGE | {"head": "lasso"}, "head='lasso'; expected one of 'ridge', 'logistic'"),
        (RIDGE | {"penalty": -1.0}, "penalty=-1.0; expected more than 0"),
        (SVM | {"bound": 0.0}, "bound=0.0; expected more than 0"),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, object], message: str, episode: Episode
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_learner(episode, model=TINY_MLP, learner=options)
