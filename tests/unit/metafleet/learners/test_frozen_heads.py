"""Heads without parameters: their arithmetic, by scikit-learn and by hand, and their centre."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.metrics.pairwise import cosine_similarity

from metafleet.episode import Episode, EpisodeShape, ExampleSet, presence_key
from metafleet.errors import ConfigError
from metafleet.learners.registry import LEARNERS, build_learner
from metafleet.models.batch_norm import average_buffers
from metafleet.models.registry import model_factory
from metafleet.params import MetaState
from metafleet.problem import Problem
from tests.unit.metafleet.few_shot import classification_episode, make_learner

HEADS = ("cosine_prototypes", "ridge", "logistic")
FIVE_WAY = EpisodeShape(n_way=5, k_shot=3, n_query=4)


def episode_of(shape: EpisodeShape = FIVE_WAY, *, seed: int = 0, offset: float = 3.0) -> Episode:
    """Draw rows of 20 features far from zero, as encoders give them."""
    found = classification_episode(shape, seed=seed, modalities={"a": (20,)})
    support, query = (
        ExampleSet({"a": part.inputs["a"] + offset}, part.targets)
        for part in (found.support, found.query)
    )
    return Episode(support, query, found.n_way)


def head(episode: Episode, name: str, **options: Any) -> Any:
    return make_learner(episode, model={"name": "raw"}, learner={"name": name, **options})


def rows_of(episode: Episode) -> tuple[Any, Any, Any]:
    """Return centred rows of length 1, of support and query, and the support's classes."""
    known, asked = (part.inputs["a"].numpy() for part in (episode.support, episode.query))
    targets = episode.support.targets.numpy()
    centre = np.mean([known[targets == k].mean(axis=0) for k in range(episode.n_way)], axis=0)
    rows = [x - centre for x in (known, asked)]
    known, asked = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rows)
    return known, asked, targets


def test_cosines_are_those_of_scikit_learn() -> None:
    episode = episode_of()
    known, asked, targets = rows_of(episode)
    prototypes = np.stack([known[targets == k].mean(axis=0) for k in range(5)])
    learner = head(episode, "cosine_prototypes", temperature=0.25)

    logits = learner.predict(learner.init_state(1), episode.support, episode.query.inputs, 5)

    np.testing.assert_allclose(logits, cosine_similarity(asked, prototypes) / 0.25, rtol=1e-9)


@pytest.mark.parametrize("penalty", [0.01, 0.5, 30.0])
def test_ridge_is_that_of_scikit_learn(penalty: float) -> None:
    episode = episode_of(seed=1)
    known, asked, targets = rows_of(episode)
    theirs = SklearnRidge(alpha=penalty, fit_intercept=False).fit(known, np.eye(5)[targets])
    learner = head(episode, "ridge", penalty=penalty, temperature=0.5)

    logits = learner.predict(learner.init_state(1), episode.support, episode.query.inputs, 5)

    np.testing.assert_allclose(logits, theirs.predict(asked) / 0.5, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("penalty", [0.001, 0.03, 10.0])
@pytest.mark.parametrize("k_shot", [1, 7])
def test_logistic_regression_converges_to_that_of_scikit_learn(k_shot: int, penalty: float) -> None:
    episode = episode_of(EpisodeShape(n_way=5, k_shot=k_shot, n_query=4), seed=2)
    known, asked, targets = rows_of(episode)
    solver = LogisticRegression(C=1 / penalty, fit_intercept=False, tol=1e-12, max_iter=10_000)
    expected = [solver.fit(known, targets == k).decision_function(asked) for k in range(5)]
    learner = head(episode, "logistic", penalty=penalty)

    logits = learner.predict(learner.init_state(1), episode.support, episode.query.inputs, 5)

    np.testing.assert_allclose(logits, np.stack(expected, axis=1), atol=1e-3)


@pytest.mark.parametrize("name", HEADS)
def test_features_far_from_zero_and_of_any_scale_are_told_apart_as_well(name: str) -> None:
    near = episode_of(seed=3, offset=0.0)
    learner = head(near, name)
    state = learner.init_state(1)
    expected = learner.predict(state, near.support, near.query.inputs, 5)

    support = ExampleSet({"a": 1e3 * near.support.inputs["a"] + 1e5}, near.support.targets)
    far = learner.predict(state, support, {"a": 1e3 * near.query.inputs["a"] + 1e5}, 5)

    torch.testing.assert_close(far, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_training_finds_the_mean_of_the_features_and_adaptation_subtracts_it(name: str) -> None:
    episodes = [episode_of(seed=seed) for seed in range(4)]
    learner = head(episodes[0], name)
    state = learner.init_state(1)
    assert state.params == {}
    before = learner.predict(state, episodes[3].support, episodes[3].query.inputs, 5)

    for episode in episodes[:3]:
        found = learner.episode_gradient(state, episode).buffers
        state = MetaState({}, average_buffers(state.buffers, found, n_episodes=1))

    means = [episode.support.inputs["a"].mean(dim=0) for episode in episodes[:3]]
    weights = [0.1 * 0.9**2, 0.1 * 0.9, 0.1]
    centre = sum(w * m for w, m in zip(weights, means, strict=True)) / sum(weights)
    mean = state.buffers["features.sum"] / state.buffers["features.weight"]
    torch.testing.assert_close(mean.double(), centre, rtol=1e-5, atol=1e-6)
    after = learner.predict(state, episodes[3].support, episodes[3].query.inputs, 5)
    assert not torch.allclose(after, before)
    own = head(episodes[0], name, centre="support")
    torch.testing.assert_close(
        own.predict(state, episodes[3].support, episodes[3].query.inputs, 5), before
    )
    shifted = [
        ExampleSet({"a": part.inputs["a"] - centre}, part.targets)
        for part in (episodes[3].support, episodes[3].query)
    ]
    plain = head(episodes[0], name, centre="none")
    expected = plain.predict(plain.init_state(1), shifted[0], shifted[1].inputs, 5)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_modalities_count_alike_and_what_an_example_lacks_counts_nothing(name: str) -> None:
    drawn = classification_episode(FIVE_WAY, seed=5, modalities={"a": (20,), "b": (6,)})
    problem = Problem({"a": (20,), "b": (6,)}, 0, {"meta_test": FIVE_WAY})
    learner = build_learner({"name": name}, problem, model_factory({"name": "raw"}, problem))
    state = learner.init_state(1)

    def asked(inputs: dict[str, torch.Tensor], loud: float = 1.0) -> torch.Tensor:
        here = {presence_key("b"): torch.ones(len(drawn.support), dtype=torch.float64)}
        support = {**drawn.support.inputs, **here, "b": loud * drawn.support.inputs["b"]}
        inputs = {presence_key("b"): torch.ones(len(drawn.query), dtype=torch.float64)} | inputs
        return learner.predict(state, ExampleSet(support, drawn.support.targets), inputs, 5)

    both = dict(drawn.query.inputs)
    torch.testing.assert_close(asked(both | {"b": 1e4 * both["b"]}, loud=1e4), asked(both))
    absent = {presence_key("b"): torch.zeros(len(drawn.query), dtype=torch.float64)}
    without = asked(both | {"b": torch.zeros_like(both["b"])} | absent)
    assert not torch.allclose(without, asked(both))
    if name == "cosine_prototypes":  # then it is the cosine in the other modality
        support = ExampleSet({"a": drawn.support.inputs["a"]}, drawn.support.targets)
        queries = ExampleSet({"a": both["a"]}, drawn.query.targets)
        single = head(Episode(support, queries, 5), name)
        expected = single.predict(single.init_state(1), support, queries.inputs, 5)
        torch.testing.assert_close(without, expected)


@pytest.mark.parametrize("name", HEADS)
def test_one_example_of_each_of_two_classes_is_enough(name: str) -> None:
    episode = episode_of(EpisodeShape(n_way=2, k_shot=1, n_query=30), seed=6)
    learner = head(episode, name)

    logits = learner.predict(learner.init_state(1), episode.support, episode.query.inputs, 2)

    # the centre lies between the two, so the nearer of them by distance wins
    distances = torch.cdist(episode.query.inputs["a"], episode.support.inputs["a"])
    assert torch.equal(logits.argmax(dim=1), distances.argmin(dim=1))


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("cosine_prototypes", "temperature", 0.0),
        ("cosine_prototypes", "temperature", float("inf")),
        ("cosine_prototypes", "centre", "mean"),
        ("ridge", "penalty", 0.0),
        ("logistic", "penalty", 1e-4),
        ("logistic", "penalty", 1e7),
    ],
)
def test_options_out_of_range_are_named(name: str, option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"learner '{name}': {option}=.*expected"):
        LEARNERS.resolve({"name": name, option: value})
