"""Fusion of modalities: gradients through every learner, and what absent modalities may not do."""

import pytest
import torch
from torch import Tensor

from metafleet.episode import Episode, EpisodeShape, ExampleSet, presence_key
from metafleet.errors import ConfigError
from metafleet.learners.registry import build_learner
from metafleet.models.batch_norm import BatchStatistics, beneath
from metafleet.models.episode_norm import EpisodeNorm
from metafleet.models.presence import presence, stand_in
from metafleet.models.registry import model_factory
from metafleet.params import Params
from metafleet.problem import Problem
from tests.unit.metafleet.few_shot import classification_episode, random_state
from tests.unit.metafleet.finite_differences import assert_matches_finite_differences

SHAPES = {"image": (2, 4, 4), "stroke": (4, 3)}
ENCODERS = {
    "image": {"name": "conv4", "channels": 3, "n_blocks": 1},
    "stroke": {"name": "conv1d", "channels": 3, "n_blocks": 1, "kernel": 3},
}
METHODS = ("concat", "gated", "attention", "product_of_experts")
PROBLEM = Problem(SHAPES, 0, {"meta_train": EpisodeShape(3, 2, 2)})
LEARNERS = (
    {"name": "protonet"},
    {"name": "maml", "inner_lr": 0.1, "inner_steps": 1},
    {"name": "r2d2"},
)


def fusion(method: str = "concat", **options: object) -> dict[str, object]:
    return {"name": "fusion", "method": method, "dim": 4, "encoders": ENCODERS} | options


def masked(part: ExampleSet, seed: int) -> ExampleSet:
    """Take modalities away: every kind of example there is, one modality at least."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randperm(len(part), generator=generator) % 3
    masks = {"image": (kind != 1).double(), "stroke": (kind != 2).double()}
    inputs = {
        name: values * masks[name].reshape(-1, *[1] * (values.dim() - 1))
        for name, values in part.inputs.items()
    }
    return ExampleSet(inputs | {presence_key(n): m for n, m in masks.items()}, part.targets)


def episode_with_gaps() -> Episode:
    episode = classification_episode(seed=4, modalities=SHAPES)
    return Episode(masked(episode.support, 1), masked(episode.query, 2), episode.n_way)


def make(method: str, n_outputs: int | None = None, **options: object) -> tuple:
    model = model_factory(fusion(method, **options), PROBLEM)(n_outputs)
    generator = torch.Generator().manual_seed(5)
    params: Params = {
        name: (value + 0.3 * torch.randn(value.shape, generator=generator)).double()
        for name, value in model.init_params(1).items()
    }
    return model, params


def forward(model: object, params: Params, inputs: dict[str, Tensor]) -> Tensor:
    norm = EpisodeNorm(model.batch_norm, {}, is_training=True)
    return model.forward(params, inputs, norm.query)


CASES = [(method, learner) for method in METHODS for learner in LEARNERS] + [
    # cosines do not feel a scale of the whole vector, which the other methods learn
    ("concat", {"name": "matchingnet"})
]


@pytest.mark.parametrize(
    ("method", "learner"), CASES, ids=[f"{method}-{learner['name']}" for method, learner in CASES]
)
def test_meta_gradients_are_those_of_finite_differences(
    method: str, learner: dict[str, object]
) -> None:
    episode = episode_with_gaps()
    built = build_learner(learner, PROBLEM, model_factory(fusion(method), PROBLEM))
    assert_matches_finite_differences(built, episode)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch_norm", ["transductive", "none"])
def test_the_values_of_an_absent_modality_have_no_effect(method: str, batch_norm: str) -> None:
    model, params = make(method, 3, batch_norm=batch_norm)
    inputs = dict(episode_with_gaps().support.inputs)
    expected = forward(model, params, inputs)
    for name in SHAPES:
        absent = inputs[presence_key(name)] == 0
        assert absent.any()
        inputs[name] = inputs[name].clone()
        inputs[name][absent] = 7.0
    torch.testing.assert_close(forward(model, params, inputs), expected)


@pytest.mark.parametrize("method", METHODS)
def test_batch_statistics_are_those_of_present_examples(method: str) -> None:
    model, params = make(method, batch_norm="running")
    inputs = dict(episode_with_gaps().support.inputs)
    norm = EpisodeNorm("running", model.init_buffers(), is_training=True)
    model.forward(params, inputs, norm.query)
    seen = norm.statistics()

    mask = inputs[presence_key("image")]
    only = {"image": stand_in(inputs["image"], mask)}
    alone = model_factory(ENCODERS["image"] | {"batch_norm": "running"}, PROBLEM)(None)
    own = {n.removeprefix("image."): v for n, v in params.items() if n.startswith("image.")}
    norm = EpisodeNorm("running", alone.init_buffers(), is_training=True)
    alone.forward(own, only, norm.query)
    for name, value in norm.statistics().items():
        torch.testing.assert_close(seen[f"image.{name}"], value)
        assert bool((value != 0).any())


@pytest.mark.parametrize("method", METHODS)
def test_a_modality_that_no_example_has_may_be_omitted(method: str) -> None:
    model, params = make(method)
    inputs = dict(classification_episode(seed=6, modalities=SHAPES).support.inputs)
    without = {"stroke": inputs["stroke"]}
    zeros = {
        "stroke": inputs["stroke"],
        "image": torch.zeros_like(inputs["image"]),
        presence_key("image"): torch.zeros(len(inputs["image"])).double(),
    }
    found = forward(model, params, without)
    assert bool((found.abs() > 1e-6).any())
    if model.batch_norm == "none":
        torch.testing.assert_close(found, forward(model, params, zeros))
    torch.testing.assert_close(found, forward(model, params, without))


@pytest.mark.parametrize("method", METHODS)
def test_it_is_mapped_over_episodes_as_in_a_loop(method: str) -> None:
    model, params = make(method)
    parts = [
        masked(classification_episode(seed=s, modalities=SHAPES).support, s) for s in (1, 2, 3)
    ]

    def gradient(own: Params, inputs: dict[str, Tensor]) -> Params:
        return torch.func.grad(lambda p: forward(model, p, inputs).square().sum())(own)

    stacked = {n: torch.stack([p.inputs[n] for p in parts]) for n in parts[0].inputs}
    mapped = torch.func.vmap(gradient, in_dims=(None, 0))(params, stacked)
    for i, part in enumerate(parts):
        for name, value in gradient(params, dict(part.inputs)).items():
            torch.testing.assert_close(mapped[name][i], value, rtol=1e-7, atol=1e-9)


def test_methods_are_what_their_formulas_say() -> None:
    inputs = dict(episode_with_gaps().support.inputs)
    masks = {name: inputs[presence_key(name)][:, None] for name in SHAPES}
    for method in ("concat", "gated", "product_of_experts"):
        model, params = make(method, batch_norm="none")
        z = {}
        for name, table in ENCODERS.items():
            encoder = model_factory(table | {"batch_norm": "none"}, PROBLEM)(None)
            own = {n[len(name) + 1 :]: v for n, v in params.items() if n.startswith(f"{name}.")}
            features = forward(encoder, own, inputs)
            weight, bias = params[f"map.{name}.weight"], params[f"map.{name}.bias"]
            z[name] = features @ weight.T + bias
        if method == "concat":
            unit = {n: v / v.norm(dim=1, keepdim=True) for n, v in z.items()}
            parts = []
            for name, other in (("image", "stroke"), ("stroke", "image")):
                guess = unit[other] @ params[f"fuse.{name}.from.{other}"].T
                guess = guess / guess.norm(dim=1, keepdim=True)
                part = torch.where(masks[name] > 0, unit[name], guess)
                parts.append(params[f"fuse.{name}.log_scale"].exp() * part)
            expected = torch.cat(parts, dim=1)
        elif method == "gated":
            scores = {
                n: (v @ params[f"fuse.{n}.gate.weight"].T + params[f"fuse.{n}.gate.bias"]).exp()
                * masks[n]
                for n, v in z.items()
            }
            total = scores["image"] + scores["stroke"]
            expected = sum(scores[n] / total * torch.tanh(z[n]) for n in z)
            expected = params["fuse.log_scale"].exp() * expected
        else:
            precision = {}
            for n, v in z.items():
                own = f"fuse.{n}.precision"
                score = v @ params[f"{own}.weight"].T + params[f"{own}.bias"]
                precision[n] = masks[n] * torch.log1p(score.exp())
            total = 1.0 + precision["image"] + precision["stroke"]
            expected = sum(precision[n] * z[n] for n in z) / total
            expected = params["fuse.log_scale"].exp() * expected
        found = forward(model, params, inputs)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_example_that_has_nothing_is_a_number_all_the_same() -> None:
    inputs = {
        name: torch.zeros(3, *shape, dtype=torch.float64) for name, shape in SHAPES.items()
    } | {presence_key(name): torch.zeros(3, dtype=torch.float64) for name in SHAPES}
    for method in METHODS:
        model, params = make(method, batch_norm="none")
        leaves = {n: v.requires_grad_() for n, v in params.items()}
        out = forward(model, leaves, inputs)
        grads = torch.autograd.grad(out.sum(), list(leaves.values()), allow_unused=True)
        assert bool(torch.isfinite(out).all()), method
        assert all(bool(torch.isfinite(g).all()) for g in grads if g is not None), method


def test_a_stand_in_is_the_last_present_example_before() -> None:
    values = torch.arange(1.0, 6.0)[:, None]
    mask = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0])
    assert stand_in(values, mask).flatten().tolist() == [5, 2, 2, 2, 5]
    assert stand_in(values, torch.zeros(5)).flatten().tolist() == [1] * 5
    assert presence({"a": values}, "a").tolist() == [1] * 5
    assert presence({"a": values}, "b").tolist() == [0] * 5
    assert presence({"a": values, "a.present": mask}, "a").tolist() == mask.tolist()


def test_encoders_of_one_kind_start_different() -> None:
    problem = Problem({"image": (2, 4, 4), "photo": (2, 4, 4)}, 0, PROBLEM.episodes)
    encoders = {name: ENCODERS["image"] for name in ("image", "photo")}
    params = model_factory(fusion(encoders=encoders), problem)(None).init_params(1)
    pairs = [n for n in params if n.startswith("image.") and n.endswith("weight")]
    assert pairs
    assert all(not torch.equal(params[n], params[n.replace("image", "photo")]) for n in pairs)


def test_without_a_table_a_modality_gets_the_encoder_of_its_name() -> None:
    problem = Problem(
        {"image": (1, 16, 16), "text": (20,)}, 0, PROBLEM.episodes, texts=frozenset({"text"})
    )
    model = model_factory({"name": "fusion"}, problem)(None)
    assert list(model.layers) == [*(f"image.block{i}" for i in range(4)), "text.embedding"]
    assert model.feature_shape == (128,)
    assert model.batch_norm == "transductive"


def test_without_a_table_a_modality_gets_the_encoder_of_what_it_was_made_of() -> None:
    shapes = {"front": (1, 16, 16), "said": (20,), "gist": (384,)}
    kinds = {"front": "image", "said": "text", "gist": "text"}
    texts = frozenset({"said"})
    problem = Problem(shapes, 0, PROBLEM.episodes, texts=texts, kinds=kinds)
    model = model_factory({"name": "fusion"}, problem)(None)
    by_name = {"front": "conv4", "gist": "adapter", "said": "ngram_bag"}
    encoders = {name: {"name": encoder} for name, encoder in by_name.items()}
    named = model_factory(fusion(dim=64, encoders=encoders), problem)(None)
    assert model.layers == named.layers
    assert set(model.init_params(1)) == set(named.init_params(1))


def test_an_encoder_of_a_package_of_the_user_needs_to_be_allowed() -> None:
    own = {"stroke": {"name": "metafleet.models.gru:Gru", "units": 3}}
    options = fusion(encoders=own)
    built = model_factory(options, PROBLEM, allowed_packages=("metafleet",))(3)
    assert list(built.layers) == ["stroke.hidden"]
    assert built.batch_norm == "none"
    with pytest.raises(ConfigError, match=r"encoders\.stroke: .* may not be imported here"):
        model_factory(options, PROBLEM)(3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (fusion("sum"), "method='sum'; expected one of 'concat', 'gated'"),
        (fusion(dim=0), "dim=0; expected 1 or more"),
        (fusion("attention", dim=6), "dim=6; expected a multiple of 4 with method='attention'"),
        (fusion(scale=0.0), "scale=0.0; expected more than 0"),
        (fusion(encoders={"ink": {"name": "gru"}}), "encoders.ink has no data; the data have"),
        (fusion(encoders={"image": 3}), "encoders.image=3; expected a table"),
        (fusion(encoders={"image": {"name": "conv5"}}), "encoders.image: unknown model 'conv5'"),
        (
            fusion(encoders={"image": {"name": "conv4", "channel": 3}}),
            "encoders.image: model 'conv4' has no option 'channel'",
        ),
        (
            fusion(encoders={"image": {"name": "conv4", "batch_norm": "none"}}),
            "encoders.image: batch_norm='none' is set for all encoders by the model; remove it",
        ),
    ],
)
def test_a_wrong_option_is_named_with_what_was_expected(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        model_factory(options, PROBLEM)(3)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_modality_without_an_encoder_of_its_name_needs_a_table() -> None:
    problem = Problem({"ink": (4, 3)}, 0, PROBLEM.episodes)
    with pytest.raises(ConfigError, match="no encoder for modality 'ink'; expected a table"):
        model_factory({"name": "fusion"}, problem)(3)


@pytest.mark.parametrize(
    ("texts", "encoder"), [(frozenset({"text"}), "ngram_bag"), (frozenset(), "adapter")]
)
def test_texts_get_the_default_encoder_of_bytes_or_of_features(
    texts: frozenset[str], encoder: str
) -> None:
    problem = Problem({"text": (384,)}, 0, PROBLEM.episodes, texts=texts)
    options = {"name": "fusion"}
    chosen = model_factory(options, problem)(3).init_params(1)
    by_name = options | {"encoders": {"text": {"name": encoder}}}
    named = model_factory(by_name, problem)(3).init_params(1)
    assert set(chosen) == set(named)
    assert all(torch.equal(chosen[name], named[name]) for name in named)


def test_states_of_running_statistics_have_a_name_for_each_encoder() -> None:
    built = build_learner(
        {"name": "protonet"}, PROBLEM, model_factory(fusion(batch_norm="running"), PROBLEM)
    )
    state = random_state(built)
    assert set(state.buffers) == {f"{m}.block0.{s}" for m in SHAPES for s in ("mean", "variance")}
    seen = built.episode_gradient(state, episode_with_gaps()).buffers
    assert all(bool((seen[n] != state.buffers[n]).all()) for n in seen)


def of_one_modality(episode: Episode) -> Episode:
    """Support examples show strokes, queries images; what they lack is zeros, with a mask."""

    def only(part: ExampleSet, shown: str) -> ExampleSet:
        masks = {name: torch.full((len(part),), float(name == shown)).double() for name in SHAPES}
        inputs = {name: x * float(name == shown) for name, x in part.inputs.items()}
        return ExampleSet(inputs | {presence_key(n): m for n, m in masks.items()}, part.targets)

    return Episode(only(episode.support, "stroke"), only(episode.query, "image"), episode.n_way)


@pytest.mark.parametrize("mode", ["running", "per_step", "frozen"])
def test_a_modality_that_no_example_has_leaves_its_encoders_averages_unchanged(mode: str) -> None:
    learner = {"name": "maml", "inner_lr": 0.1, "inner_steps": 2}
    make_model = model_factory(fusion("gated", batch_norm=mode), PROBLEM)
    built = build_learner(learner, PROBLEM, make_model)
    state = random_state(built)
    episode = of_one_modality(classification_episode(seed=4, modalities=SHAPES))
    unseen = Episode(episode.support, episode.support, episode.n_way)

    buffers = built.episode_gradient(state, unseen).buffers

    for name, value in state.buffers.items():
        is_same = torch.equal(buffers[name], value)
        assert is_same == name.startswith("image."), name


@pytest.mark.parametrize("method", METHODS)
def test_queries_of_what_the_support_lacks_are_normalised_by_their_own(method: str) -> None:
    episode = of_one_modality(classification_episode(seed=4, modalities=SHAPES))
    results = {}
    for mode in ("support", "transductive"):
        make_model = model_factory(fusion(method, batch_norm=mode), PROBLEM)
        built = build_learner(
            {"name": "maml", "inner_lr": 0.1, "inner_steps": 1}, PROBLEM, make_model
        )
        state = random_state(built)
        results[mode] = built.predict(state, episode.support, episode.query.inputs, 3)
    torch.testing.assert_close(results["support"], results["transductive"])


@pytest.mark.parametrize("is_traced", [False, True])
def test_a_modality_that_no_example_has_is_noted_at_any_depth(is_traced: bool) -> None:
    noted: list[Tensor | None] = []
    norm = BatchStatistics(
        lambda layer, mean, variance, seen: noted.append(seen), is_traced=is_traced
    )
    x, one = torch.randn(4, 3), torch.ones(3)
    unseen, seen = torch.tensor(False), torch.tensor(True)

    norm("a", x, one, one, seen=unseen)
    beneath(norm, "part", unseen)("a", x, one, one)
    beneath(beneath(norm, "part", unseen), "inner")("a", x, one, one)
    beneath(norm, "part", unseen)("a", x, one, one, seen=seen)

    assert noted == [unseen, unseen, unseen, seen]
