from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metafleet.data import registry
from metafleet.data.mixture import MixtureOptions
from metafleet.episode import CLASS_TEXT, EpisodeShape, presence_key
from metafleet.episodes.classes import ClassEpisodeSource
from metafleet.episodes.items import ClassRows, Modality
from metafleet.episodes.mixture import MixturePart, MixtureSource
from metafleet.episodes.problem_of import problem_of
from metafleet.errors import ConfigError
from metafleet.execution.chunk import chunks_of
from metafleet.models.registry import model_factory
from metafleet.params import digest
from metafleet.seeds import CounterRng
from metafleet.workload import Workload, WorkloadSpec

SHAPE = EpisodeShape(3, 2, 2)
FUSION = {
    "name": "fusion",
    "dim": 4,
    "encoders": {
        "image": {"name": "conv4", "channels": 3, "n_blocks": 1},
        "sound": {"name": "audio_conv", "channels": 3, "n_blocks": 1},
    },
}


def source(modality: str, size: tuple[int, ...], *, name: str, seed: int) -> ClassEpisodeSource:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(6, 1, *size, generator=generator)
    values = (means + torch.randn(6, 8, *size, generator=generator)).flatten(0, 1)
    return ClassEpisodeSource(
        {modality: Modality(size, lambda rows: values[list(rows)])},
        {
            "meta_train": [ClassRows(8 * i, 8) for i in range(6)],
            "meta_test": [ClassRows(8 * i, 8) for i in range(4)],
        },
        name=name,
    )


def mixture(weights: tuple[int, int] = (2, 1)) -> MixtureSource:
    return MixtureSource(
        [
            MixturePart("pictures", source("image", (1, 4, 4), name="a", seed=1), weights[0]),
            MixturePart(
                "words", source("audio", (4, 5), name="b", seed=2), weights[1], {"audio": "sound"}
            ),
        ]
    )


def spec(learner: dict[str, object], **fields: object) -> WorkloadSpec:
    shape = EpisodeShape(3, 2, 2, **fields)
    return WorkloadSpec(
        seed=3,
        data={"name": "mixture"},
        data_digest="",
        episodes={"meta_train": shape, "meta_test": shape},
        model=FUSION,
        learner=learner,
    )


def test_episode_i_of_a_step_is_of_the_part_that_its_number_says() -> None:
    mixed = mixture()
    alone = source("image", (1, 4, 4), name="a", seed=1)
    seen = []
    for index in range(12):
        address = ("meta_train", 5, index)
        episode = mixed.sample("meta_train", SHAPE, CounterRng(1, *address))
        seen += list(episode.support.inputs)
        if "image" in episode.support.inputs:
            own = alone.sample("meta_train", SHAPE, CounterRng(1, *address))
            assert torch.equal(own.query.inputs["image"], episode.query.inputs["image"])
    assert seen == ["image", "image", "sound"] * 4
    assert mixed.modalities == {"image": (1, 4, 4), "sound": (4, 5)}
    assert mixed.partial_modalities == {"image", "sound"}
    assert mixed.n_classes("meta_train") == 12


def test_parts_may_be_chosen() -> None:
    shape = EpisodeShape(3, 2, 2, parts=("words",))
    mixed = mixture()
    mixed.check("meta_test", shape)
    seen = Counter(
        name
        for index in range(6)
        for name in mixed.sample("meta_test", shape, CounterRng(1, "s", 0, index)).query.inputs
    )
    assert seen == {"sound": 6}


def test_texts_are_known_by_their_names_in_the_mixture() -> None:
    words = ClassEpisodeSource(
        {"text": Modality((8,), lambda rows: torch.ones(len(rows), 8), is_text=True)},
        {"meta_train": [ClassRows(8 * i, 8) for i in range(6)]},
        name="words",
    )
    pictures = MixturePart("pictures", source("image", (1, 4, 4), name="a", seed=1))
    mixed = MixtureSource([pictures, MixturePart("words", words, names={"text": "query"})])

    problem = problem_of(mixed, {"meta_train": replace(SHAPE, class_text=True)})

    assert problem.texts == {"query", CLASS_TEXT}
    assert problem_of(words, {"meta_train": SHAPE}).texts == {"text"}


def test_what_a_part_shows_goes_by_its_name_in_the_mixture() -> None:
    mixed = mixture()
    shape = EpisodeShape(3, 2, 2, missing_rate=0.3, query_modalities=("sound", "image"))
    mixed.check("meta_train", shape)
    episode = mixed.sample("meta_train", shape, CounterRng(1, "s", 0, 2))
    assert set(episode.query.inputs) == {"sound", presence_key("sound")}
    lacking = EpisodeShape(3, 2, 2, query_modalities=("sound",))
    with pytest.raises(ConfigError, match=r"part 'pictures': none of the modalities \['sound'\]"):
        mixed.check("meta_train", lacking)
    mixed.check("meta_train", EpisodeShape(3, 2, 2, query_modalities=("sound",), parts=("words",)))


@pytest.mark.parametrize(
    "learner",
    [{"name": "protonet"}, {"name": "maml", "inner_lr": 0.1, "inner_steps": 2}],
    ids=lambda o: o["name"],
)
def test_one_model_learns_from_all_parts(learner: dict[str, object]) -> None:
    workload = Workload.bind(spec(learner), mixture())
    state = workload.init_state()
    place = {"split": "meta_train", "step": 0}
    both = workload.gradient(state, **place, first_episode=0, n_episodes=3)
    pictures = workload.gradient(state, **place, first_episode=0, n_episodes=2)
    for name, grad in both.grads.items():
        if name.startswith(("sound.block", "map.sound")):
            assert not pictures.grads[name].any(), name
        assert bool(torch.isfinite(grad).all())
    assert all(bool(both.grads[n].any()) for n in both.grads if ".block" in n or n == "head.weight")
    # cut into other shards, the same sums
    words = workload.gradient(state, **place, first_episode=2, n_episodes=1)
    sums = {n: pictures.grads[n] + words.grads[n] for n in both.grads}
    assert digest(sums) == digest(both.grads)


def test_a_chunk_ends_where_the_inputs_change() -> None:
    mixed = mixture()
    episodes = [mixed.sample("meta_train", SHAPE, CounterRng(1, "s", 0, i)) for i in range(7)]
    sizes = [len(chunk) for chunk in chunks_of(episodes, 4)]
    assert sizes == [2, 1, 1, 1, 1, 1]
    assert [len(chunk) for chunk in chunks_of(episodes[:2] * 3, 4)] == [4, 2]


def test_a_model_of_one_modality_does_not_fit_a_mixture() -> None:
    for model in ({"name": "conv4", "n_blocks": 1}, {"name": "mlp"}):
        tiny = spec({"name": "protonet"})
        with pytest.raises(ConfigError, match="is not in every episode; expected model 'fusion'"):
            Workload.bind(
                WorkloadSpec(3, {}, "", tiny.episodes, model, {"name": "protonet"}), mixture()
            )


def test_parts_that_do_not_go_together_are_refused() -> None:
    images = source("image", (1, 4, 4), name="a", seed=1)
    with pytest.raises(ConfigError, match=r"modality 'image' of part 'b' has shape \(3, 4\) but"):
        MixtureSource(
            [MixturePart("a", images), MixturePart("b", source("image", (3, 4), name="b", seed=2))]
        )
    waves = registry.open_source({"name": "sinusoid"}, Path("."))
    with pytest.raises(ConfigError, match="a has target_dim=0, waves has target_dim=1; expected"):
        MixtureSource([MixturePart("a", images), MixturePart("waves", waves)])
    with pytest.raises(ConfigError, match="parts holds 'c'; the mixture has 'pictures', 'words'"):
        mixture().check("meta_train", EpisodeShape(3, 2, 2, parts=("c",)))
    with pytest.raises(ConfigError, match="part 'words': n_way=5 but split 'meta_test' of 'b'"):
        mixture().check("meta_test", EpisodeShape(5, 2, 2, parts=("words",)))


def texts(name: str, *, is_text: bool, kind: str = "") -> ClassEpisodeSource:
    modality = Modality((8,), lambda rows: torch.ones(len(rows), 8), None, is_text, kind)
    rows = [ClassRows(8 * i, 8) for i in range(6)]
    return ClassEpisodeSource({name: modality}, {"meta_train": rows}, name="texts")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            texts("text", is_text=True),
            texts("text", is_text=False),
            "modality 'text' of part 'b' is of kind 'text', as numbers, but of kind 'text', as "
            "bytes of a text, in another part; give it another name, as rename = "
            '{ text = "b_text" }',
        ),
        (
            texts("x", is_text=False, kind="table"),
            texts("x", is_text=False, kind="image"),
            "modality 'x' of part 'b' is of kind 'image', as numbers, but of kind 'table', as ",
        ),
    ],
    ids=["bytes and features", "kinds"],
)
def test_one_name_for_what_means_different_things_in_two_parts_is_refused(
    first: ClassEpisodeSource, second: ClassEpisodeSource, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        MixtureSource([MixturePart("a", first), MixturePart("b", second)])

    assert message in str(caught.value)
    MixtureSource(
        [
            MixturePart("a", first),
            MixturePart("b", second, 1, dict.fromkeys(second.modalities, "y")),
        ]
    )


@pytest.mark.parametrize("names", [{"left": "right"}, {"left": "eye", "right": "eye"}], ids=str)
def test_one_name_for_two_modalities_of_a_part_is_refused(names: dict[str, str]) -> None:
    modality = Modality((8,), lambda rows: torch.ones(len(rows), 8))
    rows = {"meta_train": [ClassRows(8 * i, 8) for i in range(6)]}
    both = ClassEpisodeSource({"left": modality, "right": modality}, rows, name="both")

    message = f"part 'a': modalities 'left' and 'right' would both be called {names['left']!r}"
    with pytest.raises(ConfigError, match=message):
        MixtureSource([MixturePart("a", both, 1, names)])


def test_two_modalities_may_swap_their_names() -> None:
    modalities = {
        name: Modality((1,), lambda rows, value=value: torch.full((len(rows), 1), value))
        for name, value in {"left": 1.0, "right": 2.0}.items()
    }
    rows = {"meta_train": [ClassRows(8 * i, 8) for i in range(6)]}
    both = ClassEpisodeSource(modalities, rows, name="both")
    names = {"left": "right", "right": "left"}
    mixed = MixtureSource([MixturePart("a", both, 1, names)])
    episode = mixed.sample("meta_train", SHAPE, CounterRng(1, "s", 0, 0))

    found = {name: float(values.mean()) for name, values in episode.query.inputs.items()}
    assert found == {"right": 1.0, "left": 2.0}


def test_data_sets_are_mixed_by_configuration(tmp_path: Path) -> None:
    options = {
        "name": "mixture",
        "parts": [
            {"name": "sinusoid", "rename": {"x": "time"}},
            {"name": "function_families", "families": ["linear"], "weight": 2},
            {"name": "function_families", "part": "bends", "families": ["tanh"]},
        ],
    }
    mixed = registry.open_source(options, tmp_path)
    shape = EpisodeShape(0, 5, 5)
    mixed.check("meta_train", shape)
    names = [
        next(iter(mixed.sample("meta_train", shape, CounterRng(1, "s", 0, i)).support.inputs))
        for i in range(4)
    ]
    assert names == ["time", "x", "x", "x"]
    assert registry.open_data(options, tmp_path).is_ready()
    registry.open_data(options, Path()).check_place()
    summary = registry.open_data(options, tmp_path).summarise()
    assert set(summary.modalities) == {"sinusoid.x", "function_families.x", "bends.x"}

    first = registry.open_data(options, tmp_path).digest()
    assert first == registry.open_data(options, tmp_path).digest()
    options["parts"][1]["weight"] = 3
    assert first != registry.open_data(options, tmp_path).digest()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "parts=[]; expected a table [[data.parts]] for each data set"),
        ([{}], "expected a name in each"),
        ([3], "parts=3; expected a table"),
        ([{"name": "mixture"}], "expected no mixture in a mixture"),
        ([{"name": "sinusoid", "weight": 0}], "weight=0; expected a whole number, 1 or more"),
        ([{"name": "sinusoid", "rename": "t"}], "rename='t'; expected a table of modality"),
        ([{"name": "sinusoid", "rename": {"y": "t"}}], "rename holds 'y'; the part has 'x'"),
        ([{"name": "sinusoid", "part": ""}], "part=''; expected a name for the part"),
        (
            [{"name": "sinusoid", "label": "waves"}],
            "part 'sinusoid': label='waves', but data set 'sinusoid' has no such option; to name "
            'the part, write part = "waves"',
        ),
        (
            [{"name": "sinusoid"}] * 2,
            "parts=['sinusoid', 'sinusoid']; expected a name of its own for each; add part = ",
        ),
        ([{"name": "sinus"}], "part 'sinus': there is no data set 'sinus'"),
        ([{"name": "sinusoid", "noise": 1}], "part 'sinusoid': data set 'sinusoid'"),
    ],
)
def test_a_wrong_part_is_named_with_what_was_expected(
    parts: list[object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.open_source({"name": "mixture", "parts": parts}, tmp_path)
    assert message in str(caught.value)


def test_without_parts_there_is_nothing_ready(tmp_path: Path) -> None:
    assert not registry.open_data({"name": "mixture"}, tmp_path).is_ready()
    assert MixtureOptions().parts == ()


@pytest.mark.parametrize(
    ("shape", "encoded", "message"),
    [
        (SHAPE, "image", "support examples of part 'words' in 'meta_train' have 'sound', but the"),
        (SHAPE, "sound", "support examples of part 'pictures' in 'meta_train' have 'image', but"),
        (replace(SHAPE, parts=("words",)), "image", "part 'words' in 'meta_train' have 'sound'"),
        (replace(SHAPE, parts=("pictures",)), "image", ""),
    ],
    ids=["a part", "another", "the only part", "of a part left out"],
)
def test_a_part_that_no_encoder_looks_at_is_refused(
    shape: EpisodeShape, encoded: str, message: str
) -> None:
    encoders = {encoded: FUSION["encoders"][encoded]}
    options = {**FUSION, "encoders": encoders}
    problem = problem_of(mixture(), {"meta_train": shape})
    if not message:
        assert model_factory(options, problem)(3).feature_shape
        return
    with pytest.raises(ConfigError) as caught:
        model_factory(options, problem)(3)
    assert message in str(caught.value)
    assert f"looks at {encoded!r} alone, so it could only guess" in str(caught.value)


def test_queries_whose_modality_no_encoder_looks_at_are_refused() -> None:
    shape = replace(SHAPE, query_modalities=("sound",), support_modalities=("image",))
    rows = [ClassRows(8 * i, 8) for i in range(6)]
    sizes = {"image": (1, 4, 4), "sound": (4, 5)}
    modalities = {
        name: Modality(size, lambda rows, size=size: torch.ones(len(rows), *size))
        for name, size in sizes.items()
    }
    both = ClassEpisodeSource(modalities, {"meta_test": rows}, name="both")
    problem = problem_of(both, {"meta_test": shape})
    conv = {"name": "conv4", "n_blocks": 1, "modality": "image"}
    with pytest.raises(ConfigError, match="query examples in 'meta_test' have 'sound', but the"):
        model_factory(conv, problem)(3)
    names = replace(SHAPE, class_text=True)
    alone = source("image", (1, 4, 4), name="a", seed=1)
    problem = problem_of(alone, {"meta_train": names})
    words = {"name": "fusion", "encoders": {CLASS_TEXT: {"name": "ngram_bag"}}}
    with pytest.raises(ConfigError, match="query examples in 'meta_train' have 'image', but the"):
        model_factory(words, problem)(3)


def test_the_training_mean_of_a_mixture_is_that_of_the_parts_that_have_the_modality() -> None:
    one, other = (
        source("image", (1, 4, 4), name=name, seed=seed) for name, seed in (("a", 1), ("b", 2))
    )
    words = source("audio", (4, 5), name="c", seed=3)
    parts = [MixturePart("one", one, 3), MixturePart("other", other)]
    mixed = MixtureSource([*parts, MixturePart("words", words, 1, {"audio": "sound"})])

    expected = (one.training_mean("image") + other.training_mean("image")) / 2
    torch.testing.assert_close(mixed.training_mean("image"), expected)
    torch.testing.assert_close(mixed.training_mean("sound"), words.training_mean("audio"))
