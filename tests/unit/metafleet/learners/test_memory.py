"""The tensors that an adaptation leaves for prediction."""

import pytest
import torch

from metafleet.episode import ExampleSet
from metafleet.errors import DataError
from metafleet.learners.memory import memorise, predict_from
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    classification_episode,
    make_learner,
    random_state,
)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("maml", "fast.head.weight"),
        ("protonet", "fitted.prototypes"),
        ("r2d2", "fitted.weights"),
        ("metaoptnet", "fitted.weights"),
        ("protomaml", "fast.prototypes.weight"),
    ],
)
def test_what_was_fitted_is_kept_and_the_support_set_is_not(name: str, kept: str) -> None:
    episode = classification_episode()
    model = {**TINY_CONV4, "batch_norm": "support"}
    learner = make_learner(episode, model=model, learner={"name": name})

    memory = memorise(learner, random_state(learner), episode.support, episode.n_way)

    assert kept in memory
    assert "statistics.block0.mean" in memory
    assert not any(tensor.shape[1:] == (2, 8, 8) for tensor in memory.values())


def test_a_query_that_lacks_a_modality_meets_a_support_set_that_has_all() -> None:
    episode = classification_episode(modalities={"image": (2, 8, 8), "table": (3,)})
    learner = make_learner(
        episode, model={**TINY_CONV4, "batch_norm": "transductive"}, learner={"name": "protonet"}
    )
    state = random_state(learner)
    memory = memorise(learner, state, episode.support, episode.n_way)
    masks = {"table.present": torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0], dtype=torch.float64)}

    found = predict_from(learner, state, memory, {**episode.query.inputs, **masks}, episode.n_way)

    expected = learner.predict(state, episode.support, episode.query.inputs, episode.n_way)
    torch.testing.assert_close(found, expected)  # the model ignores the table


def test_a_support_set_that_lacks_a_class_is_refused() -> None:
    episode = classification_episode()
    learner = make_learner(episode, model=TINY_CONV4, learner={"name": "protonet"})
    support = ExampleSet(
        {"image": episode.support.inputs["image"][2:]}, episode.support.targets[2:]
    )

    with pytest.raises(DataError, match="no example of class 0"):
        memorise(learner, random_state(learner), support, episode.n_way)


@pytest.mark.parametrize(
    ("name", "n_classes"), [("maml", 3), ("snail", 3), ("protonet", None), ("protomaml", None)]
)
def test_a_learner_says_how_many_classes_it_takes(name: str, n_classes: int | None) -> None:
    learner = make_learner(classification_episode(), model=TINY_CONV4, learner={"name": name})

    assert learner.n_classes == n_classes  # type: ignore[attr-defined]
