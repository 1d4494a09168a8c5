"""Heads that read names of classes: their arithmetic, against plain loops in float64."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from metafleet.episode import CLASS_TEXT, Episode, EpisodeShape, ExampleSet, presence_key
from metafleet.errors import ConfigError, DataError
from metafleet.execution.making import make_execution
from metafleet.learners.lp_plus_plus import LpPlusPlusOptions, blended_weights
from metafleet.learners.registry import LEARNERS, build_learner
from metafleet.models.registry import model_factory
from metafleet.params import MetaState
from metafleet.problem import Problem

HEADS = ("zero_shot", "text_prototypes", "tip_adapter", "lp_plus_plus")
N_WAY, D = 4, 12


def episode_of(
    shots: Sequence[int] = (2, 3, 1, 2), *, seed: int = 0, noise: float = 0.4, n_query: int = 3
) -> Episode:
    """Draw items around the directions of their classes, at other lengths and offsets than texts.

    As in CLIP, items and texts have different means but positive cosines, and texts are near the
    directions of their classes.
    """
    random = np.random.default_rng(seed)
    classes = random.standard_normal((len(shots), D))
    shared, gap = 2.0 * random.standard_normal((2, D))
    texts = 3.0 * (classes + 0.5 * random.standard_normal(classes.shape) + shared - 0.5 * gap)

    def examples(counts: Sequence[int], has_names: bool) -> ExampleSet:
        targets = np.repeat(np.arange(len(counts)), counts)
        rows = (
            classes[targets]
            + shared
            + 0.5 * gap
            + noise * random.standard_normal((len(targets), D))
        )
        names = texts[targets] if has_names else np.zeros_like(rows)
        inputs = {
            "image": torch.from_numpy(5.0 * rows),
            CLASS_TEXT: torch.from_numpy(names),
            presence_key(CLASS_TEXT): torch.full((len(targets),), float(has_names)).double(),
        }
        return ExampleSet(inputs, torch.from_numpy(targets))

    return Episode(examples(shots, True), examples([n_query] * len(shots), False), len(shots))


def head_of(
    name: str, *, texts: int = D, model: Mapping[str, Any] | None = None, **options: Any
) -> Any:
    shape = EpisodeShape(N_WAY, 1, 1, class_text=True)
    modalities = {"image": (D,), CLASS_TEXT: (texts,)}
    problem = Problem(modalities, 0, {"meta_test": shape}, partial=frozenset((CLASS_TEXT,)))
    make = model_factory(model or {"name": "raw"}, problem)
    return build_learner({"name": name, **options}, problem, make)


def logits_of(learner: Any, episode: Episode) -> Any:
    state = learner.init_state(1)
    found = learner.predict(state, episode.support, episode.query.inputs, episode.n_way)
    adapted = learner.adapt(state, episode.support, episode.n_way)
    torch.testing.assert_close(adapted.predict(episode.query.inputs), found)
    return found.numpy()


def unit(row: Any) -> Any:
    return row / math.sqrt(sum(value * value for value in row))


def rows_of(episode: Episode) -> tuple[list[Any], list[Any], list[int], list[Any]]:
    """Return unit rows of support, query and names, and the support's classes."""
    known, asked = (
        [unit(row) for row in part.inputs["image"].numpy()]
        for part in (episode.support, episode.query)
    )
    targets = episode.support.targets.tolist()
    names = episode.support.inputs[CLASS_TEXT].numpy()
    texts = [unit(names[targets.index(k)]) for k in range(episode.n_way)]
    return known, asked, targets, texts


def test_zero_shot_is_the_scaled_cosine_with_each_name() -> None:
    episode = episode_of()
    _, asked, _, texts = rows_of(episode)
    expected = [[30.0 * float(q @ t) for t in texts] for q in asked]

    found = logits_of(head_of("zero_shot", scale=30.0), episode)

    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("weight", [0.5, 0.125])
def test_a_name_is_one_more_shot(weight: float) -> None:
    episode = episode_of(seed=1)
    known, asked, targets, texts = rows_of(episode)
    expected = np.zeros((len(asked), N_WAY))
    for k in range(N_WAY):
        own = [row for row, target in zip(known, targets, strict=True) if target == k]
        prototype = unit((1.0 - weight) * sum(own) / len(own) + weight * texts[k])
        expected[:, k] = [100.0 * float(q @ prototype) for q in asked]

    found = logits_of(head_of("text_prototypes", weight=weight), episode)

    np.testing.assert_allclose(found, expected, rtol=1e-6)  # the weight is kept as float32


def test_with_one_shot_each_the_default_weight_counts_the_name_as_a_second_shot() -> None:
    episode = episode_of((1, 1, 1, 1), seed=2)
    known, asked, _, texts = rows_of(episode)
    expected = [[100.0 * float(q @ unit(k + t)) for k, t in zip(known, texts, strict=True)]
                for q in asked]  # fmt: skip

    np.testing.assert_allclose(logits_of(head_of("text_prototypes"), episode), expected, rtol=1e-9)


def test_tip_adapter_adds_the_cache_to_zero_shot() -> None:
    episode = episode_of(seed=3)
    known, asked, targets, texts = rows_of(episode)
    expected = np.zeros((len(asked), N_WAY))
    for i, q in enumerate(asked):
        for k in range(N_WAY):
            expected[i, k] = 50.0 * float(q @ texts[k])
        for key, target in zip(known, targets, strict=True):
            expected[i, target] += 1.5 * math.exp(-4.0 * (1.0 - float(q @ key)))

    found = logits_of(head_of("tip_adapter", alpha=1.5, beta=4.0, scale=50.0), episode)

    np.testing.assert_allclose(found, expected, rtol=1e-9)
    without = logits_of(head_of("tip_adapter", alpha=0.0), episode)
    np.testing.assert_allclose(without, logits_of(head_of("zero_shot"), episode), rtol=1e-9)


def lp_by_loops(episode: Episode, steps: int, text_every: int, text_init: float) -> Any:
    """LP++ with derivatives by central differences, and eigenvalues of the larger matrix."""
    known, _, targets, texts = rows_of(episode)
    n = len(known)

    def loss(w: Any, alpha: Any) -> float:
        total = 0.0
        for row, target in zip(known, targets, strict=True):
            logits = [float(row @ (w[k] + alpha[k] * texts[k])) for k in range(N_WAY)]
            most = max(logits)
            total += most + math.log(sum(math.exp(x - most) for x in logits)) - logits[target]
        return total / n

    def slope(of: Any, at: Any) -> Any:
        found = np.zeros_like(at)
        for place in np.ndindex(at.shape):
            more, less = at.copy(), at.copy()
            more[place] += 1e-5
            less[place] -= 1e-5
            found[place] = (of(more) - of(less)) / 2e-5
        return found

    cosines = [[float(row @ text) for text in texts] for row in known]
    w, means = np.zeros((N_WAY, D)), []
    for k in range(N_WAY):
        rows = [i for i in range(n) if targets[i] == k]
        w[k] = sum(known[i] for i in rows)
        means.append(sum(cosines[i][k] for i in rows) / len(rows))
    alpha = np.full(N_WAY, text_init * max(sum(means) / N_WAY, 0.0))
    second = sum(np.outer(row, row) for row in known)
    bound_w = float(np.max(np.linalg.eigvals(second).real)) / (4 * n)
    bound_alpha = max(sum(c[k] ** 2 for c in cosines) for k in range(N_WAY)) / (4 * n)
    for number in range(1, steps + 1):
        w = w - slope(lambda at, alpha=alpha: loss(at, alpha), w) / bound_w
        if number % text_every == 0:
            alpha = alpha - slope(lambda at, w=w: loss(w, at), alpha) / bound_alpha
    return np.stack([w[k] + alpha[k] * texts[k] for k in range(N_WAY)])


@pytest.mark.parametrize("steps", [0, 1, 6])
def test_lp_plus_plus_is_block_descent_by_the_lipschitz_constants(steps: int) -> None:
    episode = episode_of(seed=4)
    _, asked, _, _ = rows_of(episode)
    expected = np.stack(asked) @ lp_by_loops(episode, steps, 2, 8.0).T

    head = head_of("lp_plus_plus", steps=steps, text_every=2, text_init=8.0)

    np.testing.assert_allclose(logits_of(head, episode), expected, rtol=1e-6, atol=1e-7)


def lp_loss(weights: Any, known: Any, targets: Any) -> float:
    logits = torch.from_numpy(known) @ torch.as_tensor(weights).T
    return float(torch.nn.functional.cross_entropy(logits, targets))


def test_lp_plus_plus_never_increases_the_loss_and_finds_its_minimum() -> None:
    # more noise than the classes are apart, so that the loss has a minimum
    episode = episode_of((30, 25, 40, 20), seed=5, noise=3.0)
    known, _, targets, texts = (np.stack(rows) for rows in rows_of(episode))
    one_hot = torch.eye(N_WAY, dtype=torch.float64)[targets]
    found = [
        lp_loss(
            blended_weights(
                torch.from_numpy(known), one_hot, torch.from_numpy(texts), LpPlusPlusOptions(steps)
            ),
            known,
            episode.support.targets,
        )
        for steps in (*range(0, 40), 100, 300, 3000)
    ]
    assert all(later <= earlier for earlier, later in itertools.pairwise(found))

    def objective(flat: Any) -> float:
        return lp_loss(flat.reshape(N_WAY, D), known, episode.support.targets)

    least = minimize(objective, np.zeros(N_WAY * D), method="L-BFGS-B").fun
    assert found[0] > least + 0.1
    assert found[-1] == pytest.approx(least, abs=2e-3)


def shares_right(name: str, shots: int, n_episodes: int = 15, **options: Any) -> float:
    right = total = 0
    learner = head_of(name, **options)
    for seed in range(n_episodes):
        episode = episode_of((shots,) * N_WAY, seed=seed, noise=1.6, n_query=10)
        found = logits_of(learner, episode).argmax(axis=1)
        right += int((found == episode.query.targets.numpy()).sum())
        total += len(found)
    return right / total


def test_lp_plus_plus_of_examples_without_features_is_finite() -> None:
    classes = torch.eye(2, dtype=torch.float64).repeat_interleave(2, dim=0)
    nothing = torch.zeros(4, 3, dtype=torch.float64)
    texts = torch.eye(3, dtype=torch.float64)[:2]

    assert blended_weights(nothing, classes, texts, LpPlusPlusOptions()).isfinite().all()


def test_names_are_right_without_examples_and_examples_improve_on_them() -> None:
    zero_shot = shares_right("zero_shot", 1)
    assert zero_shot > 0.5  # 0.25 by chance
    for name in ("tip_adapter", "lp_plus_plus", "text_prototypes"):
        options = {"alpha": 50.0} if name == "tip_adapter" else {}
        few, many = (shares_right(name, shots, **options) for shots in (1, 16))
        assert zero_shot + 0.03 < many and few + 0.02 < many, name


def test_meta_training_learns_the_weight_of_the_names() -> None:
    """With names that say nothing, the weight falls; with noisy items, it rises."""
    learner = head_of("text_prototypes", scale=10.0)

    def slope(episode: Episode) -> float:
        state = learner.init_state(1)
        return float(learner.episode_gradient(state, episode).grads["text.mix"])

    def moved(by: float, episode: Episode) -> float:
        start = learner.init_state(1).params["text.mix"].double()
        state = MetaState({"text.mix": start + by}, {})
        return float(learner.evaluate(state, episode).loss)

    episode = episode_of(seed=6)
    assert slope(episode) == pytest.approx(
        (moved(1e-4, episode) - moved(-1e-4, episode)) / 2e-4, rel=1e-4
    )
    wrong = dict(episode.support.inputs)
    wrong[CLASS_TEXT] = wrong[CLASS_TEXT].flip(0)
    shuffled = Episode(ExampleSet(wrong, episode.support.targets), episode.query, N_WAY)
    assert slope(shuffled) > 0.0  # descent lowers the weight
    assert np.mean([slope(episode_of((1,) * N_WAY, seed=s, noise=4.0)) for s in range(20)]) < 0.0


@pytest.mark.parametrize("name", HEADS)
def test_a_head_on_learned_embeddings_has_their_gradient(name: str) -> None:
    options = {"steps": 3, "text_every": 2} if name == "lp_plus_plus" else {}
    learner = head_of(name, model={"name": "adapter", "modality": "image"}, **options)
    episode, start = episode_of(seed=7), learner.init_state(1)
    params = {n: p.double() + 0.1 * torch.sin(torch.arange(p.numel())).view(p.shape)
              for n, p in start.params.items()}  # fmt: skip
    towards = {
        n: torch.cos(torch.arange(p.numel()).double()).view(p.shape) for n, p in params.items()
    }

    def loss(by: float) -> float:
        moved = {n: p + by * towards[n] for n, p in params.items()}
        return float(learner.evaluate(MetaState(moved, {}), episode).loss)

    grads = learner.episode_gradient(MetaState(params, {}), episode).grads

    found = sum(float((grads[n] * towards[n]).sum()) for n in params)
    assert found == pytest.approx((loss(1e-6) - loss(-1e-6)) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_answers_have_the_same_bits_and_depend_on_no_order(name: str) -> None:
    episode, learner = episode_of(seed=8), head_of(name)
    expected = logits_of(learner, episode)
    assert np.array_equal(logits_of(head_of(name), episode), expected)
    order = torch.tensor([5, 0, 7, 3, 1, 6, 2, 4])
    support = ExampleSet(
        {n: v[order] for n, v in episode.support.inputs.items()}, episode.support.targets[order]
    )
    shuffled = logits_of(learner, Episode(support, episode.query, N_WAY))
    np.testing.assert_allclose(shuffled, expected, rtol=1e-8, atol=1e-8)
    renamed = ExampleSet(episode.support.inputs, (episode.support.targets + 1) % N_WAY)
    found = logits_of(learner, Episode(renamed, episode.query, N_WAY))
    np.testing.assert_allclose(np.roll(found, -1, axis=1), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", HEADS)
def test_episodes_mapped_together_have_the_results_of_single_ones(name: str) -> None:
    options = {"steps": 5} if name == "lp_plus_plus" else {}
    learner = head_of(name, model={"name": "adapter", "modality": "image"}, **options)
    episodes = [episode_of((2, 2, 2, 2), seed=seed) for seed in range(3)]
    state = learner.init_state(1)
    state = MetaState({n: p.double() + 0.1 for n, p in state.params.items()}, {})

    found = make_execution("vmap", learner).gradient(state, episodes)

    expected = make_execution("autograd", learner).gradient(state, episodes)
    for key in state.params:
        torch.testing.assert_close(found.grads[key], expected.grads[key], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", HEADS)
def test_what_a_head_cannot_compare_is_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"items have 12 features and names have 8") as caught:
        head_of(name, texts=8)
    assert "\n" not in str(caught.value)
    bare = Problem({"image": (D,)}, 0, {"meta_test": EpisodeShape(2, 1, 1)})
    with pytest.raises(ConfigError, match=r"set episodes.class_text=true and data.class_text"):
        build_learner({"name": name}, bare, model_factory({"name": "raw"}, bare))
    episode = episode_of()
    support = ExampleSet({"image": episode.support.inputs["image"]}, episode.support.targets)
    learner = head_of(name)
    with pytest.raises(DataError, match="has no 'class_text', the features of the names"):
        learner.adapt(learner.init_state(1), support, N_WAY)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("zero_shot", "scale", 0.0),
        ("text_prototypes", "weight", 1.0),
        ("text_prototypes", "scale", float("inf")),
        ("tip_adapter", "alpha", -0.5),
        ("tip_adapter", "beta", 0.0),
        ("lp_plus_plus", "steps", -1),
        ("lp_plus_plus", "text_every", 0),
        ("lp_plus_plus", "text_init", 0.0),
    ],
)
def test_options_out_of_range_are_named(name: str, option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"learner '{name}': {option}=.*expected"):
        LEARNERS.resolve({"name": name, option: value})
