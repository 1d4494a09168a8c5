"""Learners without inner steps, each against its equations written out by hand."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from metafleet.episode import Episode, EpisodeShape, ExampleSet
from metafleet.errors import ConfigError
from metafleet.learners.neural_process import (
    gaussian,
    negative_log_likelihood,
    normal_divergence,
)
from metafleet.params import MetaState, Params
from tests.unit.metafleet.few_shot import (
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
)
from tests.unit.metafleet.few_shot import regression_episode as values_of
from tests.unit.metafleet.finite_differences import assert_matches_finite_differences

RAW = {"name": "raw"}
CNP = {"name": "cnp", "hidden": 6, "encoder_layers": 2, "decoder_layers": 2}
ANP = {"name": "anp", "hidden": 6, "heads": 2, "latent": 3}
SNAIL = {"name": "snail", "filters": 4}
MANN = {"name": "mann", "units": 5, "slots": 6, "width": 3, "reads": 2, "key_strength": 3.0}
ALL = {"cnp": CNP, "anp": ANP, "snail": SNAIL, "mann": MANN}


def classes(seed: int = 0) -> Episode:
    return replace(classification_episode(modalities={"x": (3,)}), seed=seed)


def values(seed: int = 0) -> Episode:
    return replace(values_of(), seed=seed)


EPISODES = {"classes": classes, "values": values}


def prepared(learner_options, episode, *, model=RAW):
    learner = make_learner(episode, model=model, learner=learner_options)
    return learner, random_state(learner)


def stack(params: Params, name: str, x: Tensor) -> Tensor:
    """Do as ``dense``, by hand."""
    i = 0
    while f"{name}.{i}.weight" in params:
        x = (x.clamp(min=0) if i > 0 else x) @ params[f"{name}.{i}.weight"].T
        x = x + params.get(f"{name}.{i}.bias", 0.0)
        i += 1
    return x


def judged(learner, state: MetaState, episode: Episode) -> Tensor:
    """Predict the query set with the episode's own order and noise."""
    return learner._predict(
        state, episode.support, episode.query.inputs, episode.n_way, seed=episode.seed
    )


def drawn(learner, episode: Episode) -> Params:
    return learner._drawn(episode.seed, episode.support, len(episode.query))


@pytest.mark.parametrize("make", EPISODES.values(), ids=EPISODES.keys())
@pytest.mark.parametrize("options", ALL.values(), ids=ALL.keys())
def test_gradients_match_finite_differences(options, make) -> None:
    episode = make(seed=3)
    learner = make_learner(episode, model=RAW, learner=options)
    assert_matches_finite_differences(learner, episode)


@pytest.mark.parametrize("options", ALL.values(), ids=ALL.keys())
def test_an_embedding_is_trained_along(options) -> None:
    episode = classes()
    learner, state = prepared(options, episode, model=TINY_MLP)

    grads = learner.episode_gradient(state, episode).grads

    assert float(grads["layer0.weight"].abs().max()) > 1e-6


@pytest.mark.parametrize("make", EPISODES.values(), ids=EPISODES.keys())
@pytest.mark.parametrize("options", ALL.values(), ids=ALL.keys())
def test_no_query_sees_another(options, make) -> None:
    episode = make()
    learner, state = prepared(options, episode)
    first = {name: x[:2] for name, x in episode.query.inputs.items()}

    together = learner.predict(state, episode.support, episode.query.inputs, episode.n_way)
    apart = learner.predict(state, episode.support, first, episode.n_way)

    torch.testing.assert_close(apart, together[:2])


@pytest.mark.parametrize("make", EPISODES.values(), ids=EPISODES.keys())
@pytest.mark.parametrize("options", [CNP, ANP], ids=["cnp", "anp"])
def test_neural_processes_read_a_set(options, make) -> None:
    episode = make()
    learner, state = prepared(options, episode)
    order = torch.randperm(len(episode.support), generator=torch.Generator().manual_seed(1))
    other = ExampleSet(
        {name: x[order] for name, x in episode.support.inputs.items()},
        episode.support.targets[order],
    )

    found, expected = (
        learner.predict(state, support, episode.query.inputs, episode.n_way)
        for support in (other, episode.support)
    )

    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("options", [SNAIL, MANN], ids=["snail", "mann"])
def test_readers_take_an_order_that_belongs_to_the_episode(options) -> None:
    learner, state = prepared(options, classes())

    found = [judged(learner, state, classes(seed=seed)) for seed in (1, 1, 2)]

    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_a_cnp_decodes_with_the_mean_of_encoded_pairs() -> None:
    episode = values()
    learner, state = prepared(CNP, episode)
    p = state.params
    support, query = episode.support, episode.query
    encoded = [
        stack(p, "encoder", torch.cat([x, y]))
        for x, y in zip(support.inputs["x"], support.targets, strict=True)
    ]
    mean = sum(encoded[1:], start=encoded[0]) / len(encoded)
    decoded = torch.stack([stack(p, "decoder", torch.cat([x, mean])) for x in query.inputs["x"]])
    spread = 0.1 + 0.9 * torch.log1p(torch.exp(decoded[:, 2:]))

    found = learner.episode_gradient(state, episode)

    torch.testing.assert_close(judged(learner, state, episode), decoded[:, :2])
    expected = -Normal(decoded[:, :2], spread).log_prob(query.targets).sum(dim=1).mean()
    assert found.metrics[0].loss == pytest.approx(float(expected))
    squared = learner.evaluate(state, episode).loss
    assert squared == pytest.approx(float((decoded[:, :2] - query.targets).square().mean()))


def test_a_cnp_tells_classes_by_their_mean_encodings() -> None:
    episode = classes()
    learner, state = prepared(CNP, episode)
    p = state.params
    encoded = stack(p, "encoder", episode.support.inputs["x"])
    means = [encoded[episode.support.targets == k].mean(dim=0) for k in range(3)]

    expected = [stack(p, "decoder", torch.cat([x, *means])) for x in episode.query.inputs["x"]]

    torch.testing.assert_close(judged(learner, state, episode), torch.stack(expected))
    loss = learner.episode_gradient(state, episode).metrics[0].loss
    assert loss == pytest.approx(
        float(F.cross_entropy(torch.stack(expected), episode.query.targets))
    )


def read_by_attention(p: Params, x: Tensor, known: Tensor, pairs: Tensor) -> Tensor:
    heads = []
    for own in (slice(0, 3), slice(3, 6)):
        query, keys = stack(p, "place", x)[own], stack(p, "place", known)[:, own]
        weights = torch.softmax(torch.stack([query @ k for k in keys]) / math.sqrt(3), dim=0)
        heads.append(weights @ stack(p, "encoder", pairs)[:, own])
    return stack(p, "read", torch.cat(heads))


def latent_of(p: Params, pairs: Tensor) -> tuple[Tensor, Tensor]:
    pooled = stack(p, "latent", pairs).mean(dim=0).clamp(min=0)
    out = stack(p, "latent_out", pooled)
    return out[:3], 0.1 + 0.9 * torch.sigmoid(out[3:])


def test_an_anp_attends_and_bounds_the_evidence() -> None:
    episode = values(seed=4)
    learner, state = prepared(ANP, episode)
    p = state.params
    known, asked = episode.support.inputs["x"], episode.query.inputs["x"]
    pairs = torch.cat([known, episode.support.targets], dim=1)
    everything = torch.cat([pairs, torch.cat([asked, episode.query.targets], dim=1)])

    def decoded(z: Tensor) -> Tensor:
        return torch.stack(
            [
                stack(p, "decoder", torch.cat([x, read_by_attention(p, x, known, pairs), z]))
                for x in asked
            ]
        )

    prior, posterior = latent_of(p, pairs), latent_of(p, everything)
    torch.testing.assert_close(judged(learner, state, episode), decoded(prior[0])[:, :2])

    noise = drawn(learner, episode)["noise"]
    out = decoded(posterior[0] + posterior[1] * noise)
    spread = 0.1 + 0.9 * F.softplus(out[:, 2:])
    likely = Normal(out[:, :2], spread).log_prob(episode.query.targets).sum(dim=1).mean()
    divergence = kl_divergence(Normal(*posterior), Normal(*prior)).sum() / len(asked)
    loss = learner.episode_gradient(state, episode).metrics[0].loss
    assert loss == pytest.approx(float(divergence - likely))


def test_an_anp_of_classes_bounds_the_evidence_too() -> None:
    episode = classes(seed=7)
    learner, state = prepared(ANP, episode)
    p, asked = state.params, episode.query.inputs["x"]
    known, answers = episode.support.inputs["x"], episode.query.targets
    pairs = torch.cat([known, F.one_hot(episode.support.targets, 3)], dim=1)
    prior = latent_of(p, pairs)
    posterior = latent_of(p, torch.cat([pairs, torch.cat([asked, F.one_hot(answers, 3)], dim=1)]))
    z = posterior[0] + posterior[1] * drawn(learner, episode)["noise"]
    logits = [
        stack(p, "decoder", torch.cat([x, read_by_attention(p, x, known, pairs), z])) for x in asked
    ]

    loss = learner.episode_gradient(state, episode).metrics[0].loss

    divergence = kl_divergence(Normal(*posterior), Normal(*prior)).sum() / len(asked)
    unlikely = F.cross_entropy(torch.stack(logits), answers)
    assert loss == pytest.approx(float(unlikely + divergence))


def test_without_a_latent_variable_an_anp_is_its_deterministic_path() -> None:
    episode = values()
    learner, state = prepared(ANP | {"latent": 0}, episode)

    assert not any(name.startswith("latent") for name in state.params)
    known, asked = episode.support.inputs["x"], episode.query.inputs["x"]
    pairs = torch.cat([known, episode.support.targets], dim=1)
    expected = [
        stack(
            state.params,
            "decoder",
            torch.cat([x, read_by_attention(state.params, x, known, pairs)]),
        )[:2]
        for x in asked
    ]
    torch.testing.assert_close(judged(learner, state, episode), torch.stack(expected))


def test_likelihood_and_divergence_are_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, y = (torch.randn(5, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    mean, spread = gaussian(torch.cat([a, b], dim=1))
    other = Normal(b, a.abs() + 0.1)

    expected = -Normal(mean, spread).log_prob(y).sum(dim=1).mean()
    torch.testing.assert_close(negative_log_likelihood(y, mean, spread), expected)
    divergence = normal_divergence(mean, spread, other.mean, other.stddev)
    torch.testing.assert_close(divergence, kl_divergence(Normal(mean, spread), other).sum())


def conv_by_hand(p: Params, name: str, x: Tensor, dilation: int) -> Tensor:
    """A gated causal convolution of x [channels, length] by torch's own."""
    weight, bias = p[f"{name}.0.weight"], p[f"{name}.0.bias"]
    before, now = weight.chunk(2, dim=1)
    kernel = torch.stack([before, now], dim=2)
    out = F.conv1d(F.pad(x, (dilation, 0))[None], kernel, bias, dilation=dilation)[0]
    value, gate = out.chunk(2)
    return torch.cat([x, torch.tanh(value) * torch.sigmoid(gate)])


@pytest.mark.parametrize("make", EPISODES.values(), ids=EPISODES.keys())
def test_snail_alternates_attention_and_convolutions(make) -> None:
    episode = make(seed=5)
    learner, state = prepared(SNAIL, episode)
    p, order = state.params, drawn(learner, episode)["order"]
    y = episode.support.targets
    y = y if episode.is_regression else F.one_hot(y, 3).double()
    pairs = torch.cat([episode.support.inputs["x"], y], dim=1)[order]

    outputs = []
    for query in episode.query.inputs["x"]:
        end = torch.cat([query, torch.zeros(y.shape[1], dtype=y.dtype)])
        x = torch.cat([pairs, end[None]])
        for block in range(3):
            q, k, v = (stack(p, f"attention{block}.{n}", x) for n in ("query", "key", "value"))
            read = torch.stack(
                [
                    torch.softmax(q[t] @ k[: t + 1].T / math.sqrt(k.shape[1]), 0) @ v[: t + 1]
                    for t in range(len(x))
                ]
            )
            x = torch.cat([x, read], dim=1)
            if block < 2:  # 7 places: dilations 1, 2 and 4
                for i in range(3):
                    x = conv_by_hand(p, f"tc{block}.dense{i}", x.T, 2**i).T
        outputs.append(stack(p, "answer", x[-1]))

    torch.testing.assert_close(judged(learner, state, episode), torch.stack(outputs))


def mann_by_hand(p: Params, steps: list[Tensor]) -> Tensor:
    """Run one sequence, slot by slot."""
    hidden, cell = torch.zeros(5).double(), torch.zeros(5).double()
    rows = [torch.full((3,), 1e-6).double() for _ in range(6)]
    reading = [torch.zeros(6).double() for _ in range(2)]
    usage, recalled = torch.zeros(6).double(), torch.zeros(6).double()
    for x in steps:
        gates = x @ p["controller.input"] + p["controller.bias"]
        gates = gates + torch.cat([hidden, recalled]) @ p["controller.hidden"]
        take, keep, new, out = gates.chunk(4)
        cell = torch.sigmoid(keep + 1) * cell + torch.sigmoid(take) * torch.tanh(new)
        hidden = torch.sigmoid(out) * torch.tanh(cell)
        keys = torch.tanh(stack(p, "key", hidden)).chunk(2)
        alpha = torch.sigmoid(stack(p, "gate", hidden))

        ranked = sorted(range(6), key=lambda slot: float(usage[slot]))  # stable
        writing = []
        for head in range(2):
            least = torch.zeros(6).double()
            least[ranked[head]] = 1.0
            writing.append(alpha[head] * reading[head] + (1 - alpha[head]) * least)
        rows = [torch.zeros_like(r) if slot == ranked[0] else r for slot, r in enumerate(rows)]
        rows = [
            row + sum(w[slot] * key for w, key in zip(writing, keys, strict=True))
            for slot, row in enumerate(rows)
        ]
        reading = [
            torch.softmax(
                torch.stack([3.0 * torch.cosine_similarity(key, row + 1e-6, 0) for row in rows]), 0
            )
            for key in keys
        ]
        usage = 0.95 * usage + sum(reading) + sum(writing)
        memory = torch.stack(rows)
        recalled = torch.cat([w @ memory for w in reading])
    return stack(p, "answer", torch.cat([hidden, recalled]))


def test_mann_sees_each_target_a_step_late_and_writes_to_the_least_used_slot() -> None:
    shape = EpisodeShape(n_way=3, k_shot=5, n_query=2)  # every slot is used more than once
    episode = replace(classification_episode(shape, seed=6, modalities={"x": (3,)}), seed=6)
    learner, state = prepared(MANN, episode)
    order = drawn(learner, episode)["order"]
    xs = episode.support.inputs["x"][order]
    ys = F.one_hot(episode.support.targets[order], 3).double()
    shifted = torch.cat([torch.zeros(1, 3).double(), ys])

    expected = []
    for query in episode.query.inputs["x"]:
        steps = zip([*xs, query], shifted, strict=True)
        expected.append(mann_by_hand(state.params, [torch.cat(pair) for pair in steps]))

    torch.testing.assert_close(judged(learner, state, episode), torch.stack(expected))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CNP | {"hidden": 0}, "hidden=0; expected 1 or more"),
        (ANP | {"heads": 4}, "hidden=6; expected a multiple of heads=4"),
        (ANP | {"latent": -1}, "latent=-1; expected 0 or more"),
        (SNAIL | {"filters": 3}, "filters=3; expected 4 or more"),
        (MANN | {"slots": 2}, "slots=2; expected more than reads=2"),
        (MANN | {"usage_decay": 1.0}, "usage_decay=1.0; expected 0 or more and less than 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_learner(classes(), model=RAW, learner=options)


def test_a_model_without_anything_to_learn_gives_no_outputs() -> None:
    with pytest.raises(ConfigError, match="model 'raw' has nothing to learn and no outputs"):
        make_learner(classes(), model=RAW, learner={"name": "maml"})
