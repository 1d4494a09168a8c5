"""Networks for one modality: derivatives, padding, and agreement with what defines them."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.episode import EpisodeShape
from metafleet.errors import ConfigError
from metafleet.models.episode_norm import EpisodeNorm
from metafleet.models.ngram_bag import count_ngrams
from metafleet.models.registry import model_factory
from metafleet.params import Params
from metafleet.problem import Problem

SHAPES = {
    "image": (2, 8, 8),
    "stroke": (8, 3),
    "audio": (8, 9),
    "video": (3, 2, 4, 5),
    "text": (9,),
    "table": (6,),
}
TEXTS = frozenset({"text"})
PROBLEM = Problem(SHAPES, 0, {"meta_train": EpisodeShape(3, 2, 2)}, texts=TEXTS)
TINY: list[dict[str, object]] = [
    {"name": "resnet12", "channels": [2, 3]},
    {"name": "conv1d", "channels": 3, "n_blocks": 2, "kernel": 3},
    {"name": "conv1d", "channels": 3, "n_blocks": 2, "kernel": 3, "modality": "text"},
    {"name": "audio_conv", "channels": 3, "n_blocks": 2},
    {"name": "video_conv", "channels": 3, "n_blocks": 2},
    {"name": "ngram_bag", "buckets": 13, "dim": 4, "max_n": 3},
    {"name": "gru", "units": 4, "width": 3},
    {"name": "gru", "units": 4, "modality": "stroke"},
    {"name": "transformer", "dim": 4, "n_blocks": 2, "heads": 2},
    {"name": "transformer", "dim": 4, "n_blocks": 1, "heads": 2, "modality": "stroke"},
    {"name": "adapter", "modality": "table"},
    {"name": "adapter", "modality": "table", "rank": 2, "centre": True},
]
IDS = [
    f"{options['name']}-{options.get('modality', 'own')}{'-rank' * ('rank' in options)}"
    for options in TINY
]
HAS_NORM = [options for options in TINY if options["name"] in ("resnet12", "audio_conv", "conv1d")]


def examples(n: int = 5, *, seed: int = 3) -> dict[str, Tensor]:
    """Random inputs of every modality; texts differ in length."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        name: torch.randn(n, *shape, generator=generator, dtype=torch.float64)
        for name, shape in SHAPES.items()
    }
    text = torch.randint(97, 123, (n, *SHAPES["text"]), generator=generator).double()
    length = torch.arange(n)[:, None] + 4
    inputs["text"] = text * (torch.arange(SHAPES["text"][0]) < length)
    return inputs


def make(options: dict[str, object], n_outputs: int | None = 3, **more: object) -> tuple:
    model = model_factory(options | more, PROBLEM)(n_outputs)
    generator = torch.Generator().manual_seed(7)
    params: Params = {
        name: (value + 0.3 * torch.randn(value.shape, generator=generator)).double()
        for name, value in model.init_params(1).items()
    }
    return model, params


def norm_of(model: object) -> EpisodeNorm:
    return EpisodeNorm(model.batch_norm, {}, is_training=True)


@pytest.mark.parametrize("options", TINY, ids=IDS)
def test_first_and_second_derivatives_are_those_of_finite_differences(
    options: dict[str, object],
) -> None:
    model, params = make(options)
    inputs, norm = examples(), norm_of(model)
    targets = torch.tensor([0, 1, 2, 0, 1])
    names = sorted(params)
    generator = torch.Generator().manual_seed(11)
    direction = {
        n: torch.randn(params[n].shape, generator=generator, dtype=torch.float64) for n in names
    }

    def loss(own: Params) -> Tensor:
        return F.cross_entropy(model.forward(own, inputs, norm.query), targets)

    def slope(own: Params) -> Tensor:
        leaves = {n: v.detach().requires_grad_() for n, v in own.items()}
        grads = torch.autograd.grad(loss(leaves), list(leaves.values()), create_graph=True)
        return sum((g * direction[n]).sum() for n, g in zip(leaves, grads, strict=True))

    step = 1e-6
    there = {n: params[n] + step * direction[n] for n in names}
    back = {n: params[n] - step * direction[n] for n in names}
    numeric = (loss(there) - loss(back)) / (2 * step)
    assert float(slope(params).detach()) == pytest.approx(float(numeric), rel=1e-4, abs=1e-7)

    leaves = {n: v.detach().requires_grad_() for n, v in params.items()}
    first = torch.autograd.grad(loss(leaves), list(leaves.values()), create_graph=True)
    assert all(float(g.detach().abs().max()) > 1e-7 for g in first)
    along = sum((g * direction[n]).sum() for n, g in zip(leaves, first, strict=True))
    second = torch.autograd.grad(
        along, list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    curvature = sum((g * direction[n]).sum() for n, g in zip(leaves, second, strict=True))
    numeric = (slope(there).detach() - slope(back).detach()) / (2 * step)
    assert abs(float(numeric)) > 1e-7
    assert float(curvature.detach()) == pytest.approx(float(numeric), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("options", TINY, ids=IDS)
def test_mapped_over_episodes_it_gives_what_a_loop_gives(options: dict[str, object]) -> None:
    model, params = make(options)
    modality = options.get("modality", getattr(model, "modality", None))
    batches = [examples(seed=seed)[modality] for seed in (1, 2, 3)]
    norm = norm_of(model)

    def gradient(own: Params, values: Tensor) -> Params:
        def loss(inner: Params) -> Tensor:
            return model.forward(inner, {modality: values}, norm.query).square().mean()

        # two levels, as of an inner and an outer loop
        def adapted(outer: Params) -> Tensor:
            grads = torch.func.grad(loss)(outer)
            return loss({n: v - 0.1 * grads[n] for n, v in outer.items()})

        return torch.func.grad(adapted)(own)

    mapped = torch.func.vmap(gradient, in_dims=(None, 0))(params, torch.stack(batches))
    for i, values in enumerate(batches):
        for name, value in gradient(params, values).items():
            torch.testing.assert_close(mapped[name][i], value, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("options", HAS_NORM, ids=lambda o: o["name"])
def test_layers_name_every_batch_norm(options: dict[str, object]) -> None:
    model, params = make(options, batch_norm="running")
    seen = []

    def norm(layer: str, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        seen.append((layer, x.shape[1]))
        return x

    model.forward(params, examples(), norm)
    assert dict(seen) == dict(model.layers)
    assert len(seen) == len(model.layers)
    assert set(model.init_buffers()) == {
        f"{n}.{s}" for n in model.layers for s in ("mean", "variance")
    }
    plain, params = make(options, batch_norm="none")
    assert not plain.init_buffers()
    assert not any("norm" in name for name in params)


@pytest.mark.parametrize("options", TINY, ids=IDS)
def test_every_hidden_layer_can_be_modulated(options: dict[str, object]) -> None:
    model, params = make(options)
    seen = {}

    def modulate(layer: str, x: Tensor) -> Tensor:
        seen[layer] = x.shape[1]
        return x * 2.0

    inputs, norm = examples(), norm_of(model)
    changed = model.forward(params, inputs, norm.query, modulate)
    assert seen == dict(model.layers)
    assert not torch.allclose(changed, model.forward(params, inputs, norm.query))


@pytest.mark.parametrize("options", TINY, ids=IDS)
def test_features_have_the_shape_that_is_said(options: dict[str, object]) -> None:
    model, params = make(options, None)
    features = model.forward(params, examples(), norm_of(model).query)
    n_features = torch.Size(model.feature_shape).numel()
    assert features.shape == (5, n_features)
    assert model.head == frozenset()
    with_head, _ = make(options)
    assert with_head.head == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    "options",
    [o for o in TINY if o.get("modality", "text") == "text" and o["name"] in ("gru", "transformer")]
    + [TINY[5]],
    ids=lambda o: o["name"],
)
def test_padding_says_nothing(options: dict[str, object]) -> None:
    text = examples()["text"]
    longer = Problem({"text": (14,)}, 0, PROBLEM.episodes, texts=TEXTS)
    short, params = make(options)
    long = model_factory(options, longer)(3)
    padded = F.pad(text, (0, 5))
    if "input.place" in params:
        place = F.pad(params["input.place"], (0, 0, 0, 5), value=0.7)
        long_params = params | {"input.place": place}
    else:
        long_params = params
    norm = EpisodeNorm("none", {}, is_training=True)
    torch.testing.assert_close(
        long.forward(long_params, {"text": padded}, norm.query),
        short.forward(params, {"text": text}, norm.query),
    )
    empty = short.forward(params, {"text": torch.zeros_like(text)}, norm.query)
    assert bool(torch.isfinite(empty).all())


def test_ngrams_are_counted_by_their_hash() -> None:
    texts = [b"abab", b"AB", b""]
    raw = torch.tensor([list(t.ljust(6, b"\0")) for t in texts], dtype=torch.float64)
    found = count_ngrams(raw, buckets=997, max_n=2)

    grams = Counter({"a": 2, "b": 2, "ab": 2, "ba": 1})
    expected = sorted(n**0.5 / sum(grams.values()) ** 0.5 for n in grams.values())
    torch.testing.assert_close(
        found[0][found[0] > 0].sort().values, torch.tensor(expected, dtype=torch.float64)
    )
    assert int((found[1] > 0).sum()) == 3  # a, b, ab: capitals count as small letters
    assert set(found[1].nonzero().flatten().tolist()) < set(found[0].nonzero().flatten().tolist())
    assert not found[2].any()


def test_points_come_with_their_movement() -> None:
    model, _ = make({"name": "conv1d", "channels": 3, "n_blocks": 1, "kernel": 1}, None)
    params = model.init_params(1)
    weight = torch.zeros(3, 6, 1)
    weight[0, 3, 0] = 1.0  # the first number's difference
    x = torch.arange(8.0)[None, :, None].expand(2, 8, 3).square()
    seen = {}

    def norm(layer: str, values: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        seen[layer] = values
        return values

    model.forward(params | {"block0.conv.weight": weight}, {"stroke": x}, norm)
    assert seen["block0"][0, 0].tolist() == [0, 1, 3, 5, 7, 9, 11, 13]


def test_loudness_says_nothing() -> None:
    model, params = make({"name": "audio_conv", "channels": 3, "n_blocks": 2}, batch_norm="none")
    audio = examples()["audio"]
    norm = EpisodeNorm("none", {}, is_training=True).query
    torch.testing.assert_close(
        model.forward(params, {"audio": 3.0 * audio + 2.0}, norm),
        model.forward(params, {"audio": audio}, norm),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet12", "channels": []}, "channels=[]; expected one or more blocks"),
        ({"name": "resnet12"}, "4 blocks halve 8x8 so often that it vanishes; expected 16x16"),
        ({"name": "conv1d"}, "4 blocks halve 8 so often"),
        ({"name": "conv1d", "kernel": 4}, "kernel=4; expected an odd number"),
        ({"name": "conv1d", "modality": "ink"}, "modality='ink'; the data have 'audio', 'image'"),
        ({"name": "audio_conv", "modality": "image"}, "expects (mels, frames)"),
        ({"name": "video_conv", "modality": "image"}, "expects (frames, channels, height, width)"),
        ({"name": "gru", "modality": "image"}, "model 'gru' expects (bytes of a text,) or (length"),
        ({"name": "transformer", "dim": 5}, "dim=5; expected a multiple of heads=4"),
        ({"name": "audio_conv", "batch_norm": "eval"}, "batch_norm='eval'; expected one of"),
        ({"name": "ngram_bag", "buckets": 0}, "buckets=0; expected 1 or more"),
        (
            {"name": "adapter"},
            "modality='text' is bytes of a text, but model 'adapter' reads features; set "
            'data.encoder = "minilm"',
        ),
        (
            {"name": "fusion", "encoders": {"text": {"name": "adapter"}}},
            "encoders.text: modality='text' is bytes of a text",
        ),
        (
            {"name": "ngram_bag", "modality": "table"},
            "modality='table' is 6 numbers, no bytes of a text, which model 'ngram_bag' reads; "
            "choose 'adapter' or 'mlp'",
        ),
        ({"name": "gru", "modality": "table"}, "no bytes of a text, which model 'gru' reads"),
        ({"name": "conv1d", "modality": "table"}, "no bytes of a text, which model 'conv1d' reads"),
    ],
)
def test_a_wrong_option_is_named_with_what_was_expected(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        model_factory(options, PROBLEM)(3)
    assert message in str(caught.value)


def test_an_adapter_gives_what_went_in_at_one_length_before_training() -> None:
    model = model_factory({"name": "adapter", "modality": "table", "length": 2.0}, PROBLEM)(None)
    inputs = {name: values.float() for name, values in examples().items()}
    inputs["table"][1] = 0.0

    found = model.forward(model.init_params(1), inputs, norm_of(model).query)

    expected = 2.0 * F.normalize(inputs["table"], dim=1)
    torch.testing.assert_close(found, expected)
    assert not found[1].any()


def test_an_adapter_reads_the_only_modality_whatever_its_name() -> None:
    only = replace(PROBLEM, modalities={"table": SHAPES["table"]}, texts=frozenset())

    assert model_factory({"name": "adapter"}, only)(None).modality == "table"


@pytest.mark.parametrize("rank", [0, 2])
def test_an_adapter_starts_at_the_features_without_their_training_mean(rank: int) -> None:
    table = {"name": "adapter", "modality": "table", "centre": True, "rank": rank}
    inputs = {name: values.float() for name, values in examples().items()}
    mean = inputs["table"].mean(dim=0) + 1.0
    model = model_factory(table, replace(PROBLEM, training_mean=lambda modality: mean))(None)

    found = model.forward(model.init_params(1), inputs, norm_of(model).query)

    expected = 3.5 * F.normalize(inputs["table"] - mean, dim=1)
    torch.testing.assert_close(found, expected)


def test_an_adapter_of_low_rank_is_the_full_adapter_with_the_product_of_its_maps() -> None:
    inputs = examples()
    low = model_factory({"name": "adapter", "modality": "table", "rank": 2}, PROBLEM)(None)
    full = model_factory({"name": "adapter", "modality": "table"}, PROBLEM)(None)
    generator = torch.Generator().manual_seed(4)
    up, down = (torch.randn(shape, generator=generator).double() for shape in ((6, 2), (2, 6)))

    found = low.forward({"embedding.up": up, "embedding.down": down}, inputs, norm_of(low).query)

    expected = full.forward({"embedding.weight": up @ down}, inputs, norm_of(full).query)
    torch.testing.assert_close(found, expected)


def test_a_rank_above_the_number_of_features_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rank=7 but modality 'table' has 6 features"):
        model_factory({"name": "adapter", "modality": "table", "rank": 7}, PROBLEM)(None)
