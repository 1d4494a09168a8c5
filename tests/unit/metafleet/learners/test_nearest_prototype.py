"""The baseline: nearest class means of unlearned features."""

import pytest
import torch

from metafleet.episode import Episode, EpisodeShape, ExampleSet, presence_key
from metafleet.learners.registry import build_learner
from metafleet.models.registry import model_factory
from metafleet.problem import Problem
from tests.unit.metafleet.few_shot import TINY_MLP, classification_episode, make_learner

NEAREST = {"name": "nearest_prototype"}


def nearest_by_hand(episode: Episode, names: tuple[str, ...]) -> torch.Tensor:
    logits = 0.0
    for name in names:
        prototypes = episode.support.inputs[name].flatten(1).reshape(3, 2, -1).mean(dim=1)
        distances = torch.cdist(episode.query.inputs[name].flatten(1), prototypes) ** 2
        between = torch.cdist(prototypes, prototypes) ** 2  # mean to the mean: their sum / (2 * 9)
        logits = logits - distances / ((between.sum() / 18) if len(names) > 1 else 1.0)
    return logits / len(names)


@pytest.mark.parametrize("names", [("a",), ("a", "b")], ids="-".join)
def test_nearest_prototype_weighs_modalities_alike_and_has_nothing_to_learn(
    names: tuple[str, ...],
) -> None:
    sizes = {"b": (2, 3), "a": (4,)}
    episode = classification_episode(modalities={n: sizes[n] for n in names}, seed=13)
    learner = make_learner(episode, model=TINY_MLP, learner=NEAREST)
    state = learner.init_state(1)
    expected = nearest_by_hand(episode, names)

    logits = learner.predict(state, episode.support, episode.query.inputs, 3)

    torch.testing.assert_close(logits, expected)
    loud = {name: 1000 * x if name == "b" else x for name, x in episode.support.inputs.items()}
    asked = {name: 1000 * x if name == "b" else x for name, x in episode.query.inputs.items()}
    support = ExampleSet(loud, episode.support.targets)
    torch.testing.assert_close(learner.predict(state, support, asked, 3), expected)
    gradient = learner.episode_gradient(state, episode)
    assert (state.params, gradient.grads, gradient.buffers) == ({}, {}, {})
    assert gradient.metrics[0].accuracy == learner.evaluate(state, episode).accuracy
    assert learner.batch_norm == "none"


def test_nearest_prototype_compares_by_what_both_have() -> None:
    generator = torch.Generator().manual_seed(3)
    means = {name: torch.randn(5, 8, generator=generator) for name in ("a", "b")}
    problem = Problem({"a": (8,), "b": (8,)}, 0, {"meta_test": EpisodeShape(5, 2, 20)})
    learner = build_learner(NEAREST, problem, model_factory({"name": "mlp"}, problem))

    def examples(per_class: int, holder: torch.Tensor) -> ExampleSet:
        targets = torch.arange(5).repeat_interleave(per_class)
        inputs: dict[str, torch.Tensor] = {}
        for place, name in enumerate(("a", "b")):
            has = ((holder == place) | (holder == 2)).float()
            noisy = means[name][targets] + 0.1 * torch.randn(len(targets), 8, generator=generator)
            inputs |= {name: noisy * has[:, None], presence_key(name): has}
        return ExampleSet(inputs, targets)

    # of each class one with either; queries with a, b or both; then of class 0 none with b at all
    support = examples(2, torch.tensor([0, 1] * 5))
    queries = examples(21, torch.arange(105) % 3)
    state = learner.init_state(1)
    assert learner.evaluate(state, Episode(support, queries, 5)).accuracy == 1.0
    lacking = examples(2, torch.tensor([0, 0] + [0, 1] * 4))
    logits = learner.predict(state, lacking, queries.inputs, 5)
    only_b = queries.inputs[presence_key("a")] == 0
    assert set(logits[only_b, 0].tolist()) == {-2.0}  # spreads are scaled to 1
    right = logits.argmax(dim=1) == queries.targets
    assert bool(right[~only_b].all()) and right[only_b].float().mean() > 0.7


def test_a_modality_that_one_class_alone_has_tells_nothing() -> None:
    problem = Problem({"a": (8,), "b": (3,)}, 0, {"meta_test": EpisodeShape(5, 1, 4)})
    learner = build_learner(NEAREST, problem, model_factory({"name": "mlp"}, problem))
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(25, 8, generator=generator), torch.randn(25, 3, generator=generator)
    logits = []
    for holds in (0.0, 1.0):
        mask = torch.tensor([holds, 0.0, 0.0, 0.0, 0.0])
        inputs = {"a": a[:5], "b": b[:5] * mask[:, None], presence_key("b"): mask}
        support = ExampleSet(inputs, torch.arange(5))
        queries = {"a": a[5:], "b": b[5:], presence_key("b"): torch.ones(20)}
        logits.append(learner.predict(learner.init_state(1), support, queries, 5))
    torch.testing.assert_close(logits[1], logits[0])


def test_a_common_offset_of_features_costs_no_digits() -> None:
    episode = classification_episode(modalities={"a": (4,)}, seed=13)
    far = [
        ExampleSet({"a": part.inputs["a"].float() + 3.0e4}, part.targets)
        for part in (episode.support, episode.query)
    ]
    learner = make_learner(episode, model=TINY_MLP, learner=NEAREST)
    state = learner.init_state(1)
    near = learner.predict(state, episode.support, episode.query.inputs, 3)
    logits = learner.predict(state, far[0], far[1].inputs, 3)
    torch.testing.assert_close(logits.double(), near.double(), rtol=0.02, atol=0.1)


def test_nearest_prototype_counts_what_texts_are_made_of() -> None:
    texts = torch.zeros(6, 12)
    words = [b"red cat", b"the red cat", b"blue dog", b"a blue dog", b"tall tree", b"tree, tall"]
    for row, word in zip(texts, words, strict=True):
        row[: len(word)] = torch.tensor(list(word), dtype=torch.float32)
    support = ExampleSet({"text": texts[::2]}, torch.arange(3))
    problem = Problem(
        {"text": (12,)}, 0, {"meta_test": EpisodeShape(3, 1, 1)}, texts=frozenset({"text"})
    )
    learner = build_learner(NEAREST, problem, model_factory({"name": "mlp"}, problem))
    logits = learner.predict(learner.init_state(1), support, {"text": texts[1::2]}, 3)
    assert logits.argmax(dim=1).tolist() == [0, 1, 2]


def test_nearest_prototype_gets_by_without_a_modality_of_a_mixture() -> None:
    shapes = {"a": (4,), "b": (2, 3)}
    problem = Problem(shapes, 0, {"meta_test": EpisodeShape(3, 2, 1)}, partial=frozenset("b"))
    episode = classification_episode(modalities={"a": (4,)}, seed=13)
    learner = build_learner(NEAREST, problem, model_factory({"name": "mlp"}, problem))
    alone = make_learner(episode, model=TINY_MLP, learner=NEAREST)
    both, one = (
        it.predict(it.init_state(1), episode.support, episode.query.inputs, 3).argsort(dim=1)
        for it in (learner, alone)
    )
    assert torch.equal(both, one)


@pytest.mark.parametrize("k_shot", [1, 3, 5])
def test_a_modality_that_is_the_same_in_all_classes_tells_nothing(k_shot: int) -> None:
    shape = EpisodeShape(5, k_shot, 4)
    problem = Problem({"a": (8,), "b": (784,)}, 0, {"meta_test": shape})
    learner = build_learner(NEAREST, problem, model_factory({"name": "mlp"}, problem))
    generator = torch.Generator().manual_seed(4)
    means = 3 * torch.randn(5, 8, generator=generator)
    same, other = torch.rand(2, 784, generator=generator)  # whose means differ by rounding alone

    def examples(per_class: int, b: torch.Tensor) -> ExampleSet:
        targets = torch.arange(5).repeat_interleave(per_class)
        noise = 0.1 * torch.randn(len(targets), 8, generator=generator)
        return ExampleSet({"a": means[targets] + noise, "b": b.expand(len(targets), -1)}, targets)

    episode = Episode(examples(k_shot, same), examples(4, other), 5)
    assert learner.evaluate(learner.init_state(1), episode).accuracy == 1.0
