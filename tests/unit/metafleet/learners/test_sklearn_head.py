import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

from metafleet.episode import Episode, EpisodeShape
from metafleet.errors import ConfigError
from tests.unit.metafleet.few_shot import (
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
)

FOREST = {
    "name": "sklearn_head",
    "estimator": "sklearn.ensemble.RandomForestClassifier",
    "params": {"n_estimators": 7},
}
NEIGHBOURS = {
    "name": "sklearn_head",
    "estimator": "sklearn.neighbors.KNeighborsClassifier",
    "params": {"n_neighbors": 1},
}


@pytest.fixture
def episode() -> Episode:
    return classification_episode(modalities={"x": (3,)})


def embeddings(learner, state, episode) -> tuple[np.ndarray, np.ndarray]:
    """Embed support and query by a one-nearest-neighbour protonet's own model."""
    return tuple(
        learner.model.forward(state.params, part.inputs, None).numpy()
        for part in (episode.support, episode.query)
    )


def test_the_classifier_is_fitted_to_the_embedded_support_set(episode: Episode) -> None:
    learner = make_learner(episode, model=TINY_MLP, learner=NEIGHBOURS)
    state = random_state(learner)
    support, query = embeddings(learner, state, episode)
    theirs = KNeighborsClassifier(n_neighbors=1).fit(support, episode.support.targets.numpy())

    outputs = learner.predict(state, episode.support, episode.query.inputs, 3)

    shares = theirs.predict_proba(query).clip(min=1e-6)
    np.testing.assert_allclose(outputs.exp().numpy(), shares)
    found = learner.evaluate(state, episode)
    assert found.accuracy == theirs.score(query, episode.query.targets.numpy())


def test_chance_comes_from_the_episode(episode: Episode) -> None:
    learner = make_learner(episode, model=TINY_MLP, learner=FOREST)
    state = random_state(learner)

    def outputs(seed: int) -> torch.Tensor:
        own = Episode(episode.support, episode.query, 3, seed=seed)
        return torch.tensor(learner.evaluate(state, own).loss)

    assert outputs(4) == outputs(4)
    assert len({float(outputs(seed)) for seed in range(5)}) > 1
    support, query = embeddings(learner, state, episode)
    theirs = RandomForestClassifier(n_estimators=7, random_state=0).fit(
        support, episode.support.targets.numpy()
    )
    assert theirs.predict_proba(query).shape == (6, 3)


def test_the_embedding_is_trained_as_a_prototypical_network_is(episode: Episode) -> None:
    forest = make_learner(episode, model=TINY_MLP, learner=FOREST)
    protonet = make_learner(episode, model=TINY_MLP, learner={"name": "protonet"})
    state = random_state(forest)

    found, expected = (one.episode_gradient(state, episode) for one in (forest, protonet))

    assert found.metrics == expected.metrics
    for name, grad in expected.grads.items():
        assert torch.equal(found.grads[name], grad)


@pytest.mark.parametrize(
    "estimator",
    ["sklearn.svm.LinearSVC", "sklearn.linear_model.LogisticRegression"],
)
@pytest.mark.parametrize("n_way", [2, 5])
def test_classifiers_without_probabilities_serve_too(estimator: str, n_way: int) -> None:
    episode = classification_episode(EpisodeShape(n_way, 4, 5), modalities={"x": (3,)})
    learner = make_learner(
        episode, model=TINY_MLP, learner={"name": "sklearn_head", "estimator": estimator}
    )
    state = random_state(learner)

    outputs = learner.predict(state, episode.support, episode.query.inputs, n_way)

    assert outputs.shape == (5 * n_way, n_way)
    assert learner.evaluate(state, episode).accuracy > 1.5 / n_way


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "os.system"}, "estimator='os.system'; expected a classifier of scikit"),
        ({"estimator": "sklearn.base.BaseEstimator"}, "is no classifier of scikit-learn"),
        ({"estimator": "sklearn.forest.Forest"}, "is no classifier of scikit-learn"),
        ({"params": {"depth": 3}}, r"params=\{'depth': 3\}: .*unexpected keyword argument 'depth'"),
        ({"params": {"random_state": 3}}, "no random_state: it is drawn for each episode"),
        ({"params": [1]}, r"params=\[1\]; expected a table of texts, numbers and truth values"),
    ],
)
def test_an_object_that_is_no_classifier_is_refused(
    episode: Episode, options, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_learner(episode, model=TINY_MLP, learner={"name": "sklearn_head"} | options)
