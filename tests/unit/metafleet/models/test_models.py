import pytest
import torch
import torch.nn.functional as F

from metafleet.episode import EpisodeShape, ExampleSet
from metafleet.errors import ConfigError, DataError
from metafleet.models.base import Model
from metafleet.models.batch_norm import average_buffers
from metafleet.models.episode_norm import EpisodeNorm
from metafleet.models.registry import MODELS, model_factory
from metafleet.params import MetaState, digest
from metafleet.problem import Problem
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
)

PROBLEM = Problem({"image": (2, 8, 8), "pen": (5, 3)}, 0, {"meta_train": EpisodeShape(3, 2, 2)})
MAML = {"name": "maml", "inner_lr": 0.3, "inner_steps": 2}
PROTONET = {"name": "protonet"}


def make_model(n_outputs: int | None = 3, **options: object) -> Model:
    return model_factory({"name": "conv4", "channels": 3, "n_blocks": 2} | options, PROBLEM)(
        n_outputs
    )


@pytest.mark.parametrize("options", [TINY_CONV4, TINY_MLP], ids=lambda o: o["name"])
def test_the_same_seed_draws_the_same_bits_and_another_seed_others(
    options: dict[str, object],
) -> None:
    before = torch.random.get_rng_state()
    model = model_factory(options, PROBLEM)(3)

    drawn = digest(model.init_params(7))

    assert digest(model_factory(options, PROBLEM)(3).init_params(7)) == drawn
    assert digest(model.init_params(8)) != drawn
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_initial_bits_of_conv4_never_change() -> None:
    params = make_model().init_params(2026)
    assert digest(params) == "afe327854066da22e598a045b9f25d64cdc0fce72fa2c49796f9e673b4857256"


def test_the_initial_bits_of_the_mlp_never_change() -> None:
    params = model_factory(TINY_MLP, PROBLEM)(3).init_params(2026)
    assert digest(params) == "c28f4432d2a3f2d9984a48cca82bff3c164d677510e08686674a734721909e37"


def test_initial_weights_have_the_spread_of_their_scheme() -> None:
    weight = make_model(channels=64).init_params(1)["block1.conv.weight"]
    bound = (6.0 / (128 * 9)) ** 0.5
    assert float(weight.abs().max()) == pytest.approx(bound, rel=1e-3)
    assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    assert abs(float(weight.mean())) < 0.01 * bound * 3


def test_conv4_without_a_head_embeds_and_has_no_head_parameters() -> None:
    model = make_model(None)
    params = model.init_params(1)
    images = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    norm = EpisodeNorm("transductive", {}, is_training=True)
    assert model.forward(params, {"image": images}, norm.query).shape == (4, 3 * 2 * 2)
    assert not any(name.startswith("head.") for name in params)


def test_conv4_learns_a_bias_only_where_batch_norm_would_not_remove_it() -> None:
    assert "block0.conv.bias" in make_model(batch_norm="none").init_params(1)
    assert "block0.norm.scale" not in make_model(batch_norm="none").init_params(1)
    assert "block0.conv.bias" not in make_model(batch_norm="support").init_params(1)


def test_mlp_joins_the_chosen_modalities_in_their_order() -> None:
    generator = torch.Generator().manual_seed(2)
    inputs = {
        "image": torch.randn(4, 2, 8, 8, generator=generator),
        "pen": torch.randn(4, 5, 3, generator=generator),
    }
    norm = EpisodeNorm("none", {}, is_training=True)
    for chosen, joined in (
        ([], torch.cat([inputs["image"].flatten(1), inputs["pen"].flatten(1)], 1)),
        (["pen", "image"], torch.cat([inputs["pen"].flatten(1), inputs["image"].flatten(1)], 1)),
        (["pen"], inputs["pen"].flatten(1)),
    ):
        options = {"name": "mlp", "hidden": [6], "modalities": chosen}
        model = model_factory(options, PROBLEM)(3)
        params = model.init_params(1)
        hidden = F.relu(joined @ params["layer0.weight"].T + params["layer0.bias"])
        expected = hidden @ params["layer1.weight"].T + params["layer1.bias"]
        torch.testing.assert_close(model.forward(params, inputs, norm.query), expected)


@pytest.mark.parametrize("learner", [MAML, PROTONET], ids=lambda o: o["name"])
def test_only_transductive_predictions_depend_on_the_other_queries(
    learner: dict[str, object],
) -> None:
    episode = classification_episode(seed=21)
    inputs = episode.query.inputs["image"]
    for batch_norm, depends in (
        ("transductive", True),
        ("support", False),
        ("running", False),
        ("none", False),
    ):
        built = make_learner(
            episode, model=TINY_CONV4 | {"batch_norm": batch_norm}, learner=learner
        )
        state = random_state(built)
        together = built.predict(state, episode.support, {"image": inputs}, 3)[:2]
        apart = built.predict(state, episode.support, {"image": inputs[:2]}, 3)
        assert torch.allclose(together, apart, rtol=1e-9) is not depends, batch_norm


@pytest.mark.parametrize("learner", [MAML, PROTONET], ids=lambda o: o["name"])
def test_running_statistics_are_those_of_the_forward_passes(learner: dict[str, object]) -> None:
    episode = classification_episode(seed=22)
    model = TINY_CONV4 | {"batch_norm": "running"}
    one_step = learner | ({"inner_steps": 1} if learner is MAML else {})
    built = make_learner(episode, model=model, learner=one_step)
    state = random_state(built)

    seen = built.episode_gradient(state, episode).buffers

    assert seen.keys() == state.buffers.keys()
    weight = state.params["block0.conv.weight"]
    support, query = (
        F.conv2d(part.inputs["image"], weight, padding=1)
        for part in (episode.support, episode.query)
    )
    if learner is PROTONET:
        mean = torch.cat([support, query]).mean(dim=(0, 2, 3))
        torch.testing.assert_close(seen["block0.mean"], mean)
        variance = torch.cat([support, query]).var(dim=(0, 2, 3))
        torch.testing.assert_close(seen["block0.variance"], variance)
    else:  # the query is seen with adapted weights, which moved a little
        rough = (support.mean(dim=(0, 2, 3)) + query.mean(dim=(0, 2, 3))) / 2
        assert float((seen["block0.mean"] - rough).abs().max()) < 0.5
    assert all(bool((value != 0).all()) for value in seen.values())


def test_evaluation_uses_the_running_statistics() -> None:
    episode = classification_episode(seed=23)
    built = make_learner(episode, model=TINY_CONV4 | {"batch_norm": "running"}, learner=PROTONET)
    state = random_state(built)
    other = MetaState(state.params, {n: 2.0 * b for n, b in state.buffers.items()})

    assert built.evaluate(state, episode) != built.evaluate(other, episode)
    assert built.episode_gradient(state, episode).metrics == (
        built.episode_gradient(other, episode).metrics
    )


def test_running_statistics_learned_over_steps_make_evaluation_agree_with_training() -> None:
    episode = classification_episode(EpisodeShape(3, 30, 30), seed=24)
    built = make_learner(episode, model=TINY_CONV4 | {"batch_norm": "running"}, learner=PROTONET)
    state = random_state(built)
    trained = built.episode_gradient(state, episode)
    for _ in range(200):
        sums = {n: 2.0 * value for n, value in trained.buffers.items()}
        state = MetaState(state.params, average_buffers(state.buffers, sums, n_episodes=2))

    assert built.evaluate(state, episode).loss == pytest.approx(trained.metrics[0].loss, rel=1e-3)


def test_one_value_for_each_channel_is_refused_by_name() -> None:
    problem = Problem({"image": (1, 2, 2)}, 0, {"meta_train": EpisodeShape(3, 2, 2)})
    model = model_factory(TINY_CONV4 | {"n_blocks": 1}, problem)(3)
    norm = EpisodeNorm("transductive", {}, is_training=False)
    with pytest.raises(DataError, match="'block9' got 1 value for each channel"):
        norm.query("block9", torch.ones(1, 3, 1, 1), torch.ones(3), torch.zeros(3))
    assert model.forward(model.init_params(1), {"image": torch.rand(1, 1, 2, 2)}, norm.query).shape


def test_every_modality_needs_one_row_for_each_target() -> None:
    with pytest.raises(DataError, match="modality 'x' has 3 examples but there are 2 targets"):
        ExampleSet({"x": torch.rand(3, 2)}, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "conv5"}, "unknown model 'conv5'; expected one of 'adapter', 'audio_conv'"),
        ({"name": "conv4", "channels": 0}, "model 'conv4': channels=0; expected 1 or more"),
        ({"name": "conv4", "n_blocks": -1}, "n_blocks=-1; expected 1 or more"),
        ({"name": "transformer", "n_blocks": 20_000}, "n_blocks=20000; expected 80 or fewer"),
        ({"name": "conv4", "n_blocks": 4}, "8x8 vanishes; expected images of 16x16 or more"),
        ({"name": "conv4", "batch_norm": "eval"}, "batch_norm='eval'; expected one of"),
        ({"name": "conv4", "n_blocks": 2, "modality": "img"}, "the data have 'image', 'pen'"),
        ({"name": "conv4", "modality": "pen"}, "expects (channels, height, width)"),
        ({"name": "mlp", "hidden": []}, "hidden=[]; expected one or more layers"),
        ({"name": "mlp", "hidden": 40}, "hidden=40; expected a list"),
        ({"name": "mlp", "hidden": [4, 0]}, "hidden=[4, 0]; expected one or more layers"),
        ({"name": "mlp", "modalities": ["pen", "pen"]}, "expected each modality once"),
        ({"name": "mlp", "modalities": ["ink"]}, "modalities holds 'ink'; the data have"),
    ],
)
def test_a_wrong_model_option_is_named_with_what_was_expected(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        model_factory(options, PROBLEM)(3)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_defaults_are_what_an_empty_table_gives() -> None:
    for name, model in MODELS.items():
        assert MODELS.resolve({"name": name})[1] == model.Options()
