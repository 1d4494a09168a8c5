"""What is said of support sets that are not as those of training: names, gaps, light and dark."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import metafleet
from metafleet.episode import CLASS_TEXT, CLASS_TEXT_BYTES, ExampleSet, presence_key
from metafleet.episodes.class_names import name_bytes
from metafleet.errors import ConfigError, DataError, ModelError
from metafleet.inference.brightness import looks_inverted
from metafleet.inference.input_spec import InputSpec
from metafleet.inference.items import ReadOptions
from metafleet.inference.learned_model import LearnedModel
from metafleet.problem import Problem
from tests.menagerie import make_classes
from tests.unit.metafleet.inference.models import CONV, ORIGIN, SHAPE, learned, regressor

FUSION = {
    "name": "fusion",
    "dim": 8,
    "method": "gated",
    "batch_norm": "support",
    "encoders": {
        "image": {"name": "conv4", "channels": 4, "n_blocks": 2},
        "audio": {"name": "audio_conv", "channels": 4},
        "text": {"name": "ngram_bag"},
    },
}


def named_model() -> LearnedModel:
    """An untrained model of pictures that gets the names of the classes, as in AM3."""
    blueprint = learned("image").learned.blueprint
    shapes = {**blueprint.problem.modalities, CLASS_TEXT: (CLASS_TEXT_BYTES,)}
    partial = frozenset((CLASS_TEXT,))
    problem = Problem(shapes, 0, {"meta_train": SHAPE}, partial=partial, texts=partial)
    encoders = {"image": FUSION["encoders"]["image"], CLASS_TEXT: {"name": "ngram_bag"}}
    whole = replace(blueprint, problem=problem, model={**FUSION, "encoders": encoders})
    return LearnedModel.of(whole, whole.build().init_state(1), ORIGIN)


def test_names_of_classes_are_part_of_what_is_adapted_to_and_of_no_query(tmp_path: Path) -> None:
    make_classes(tmp_path / "named", range(0, 24, 8), n_items=2, seed=1)
    model = named_model()

    adapted = model.adapt(tmp_path / "named")
    adapted.save(tmp_path / "model")
    kept = metafleet.load_model(tmp_path / "model")

    own, pictures = model.learned, torch.rand(5, 3, 8, 8)
    assert adapted.needs.known == ("image",)
    assert torch.equal(kept.logits({"image": pictures}), adapted.logits({"image": pictures}))

    support = ExampleSet({"image": torch.rand(6, 3, 8, 8)}, torch.arange(3).repeat_interleave(2))
    names = ["thing00", "thing08", "thing16"]
    told = torch.stack([name_bytes(name) for name in names]).repeat_interleave(2, dim=0)
    full = {**support.inputs, CLASS_TEXT: told, presence_key(CLASS_TEXT): torch.ones(6)}
    untold = {CLASS_TEXT: torch.zeros(5, 64), presence_key(CLASS_TEXT): torch.zeros(5)}
    expected = own.learner.predict(
        own.state, ExampleSet(full, support.targets), {"image": pictures, **untold}, 3
    )
    found = model.adapt_to(ExampleSet(full, support.targets), dict.fromkeys(names, 2))
    torch.testing.assert_close(found.logits({"image": pictures}), expected)
    shouted = {"image": pictures, CLASS_TEXT: told[:5], presence_key(CLASS_TEXT): torch.ones(5)}
    assert torch.equal(found.logits(shouted), found.logits({"image": pictures}))


def test_another_name_of_a_class_gives_other_probabilities(tmp_path: Path) -> None:
    make_classes(tmp_path / "a", range(0, 24, 8), n_items=2, seed=1)
    make_classes(tmp_path / "b", range(0, 24, 8), n_items=2, seed=1)
    (tmp_path / "b" / "thing16").rename(tmp_path / "b" / "zebra")
    model, pictures = named_model(), {"image": torch.rand(4, 3, 8, 8)}

    first, second = (model.adapt(tmp_path / name).logits(pictures) for name in "ab")

    torch.testing.assert_close(first[:, :2], second[:, :2])
    assert not torch.allclose(first[:, 2], second[:, 2], rtol=1e-4)


def test_a_class_without_a_modality_that_others_have_is_reported(tmp_path: Path) -> None:
    make_classes(tmp_path / "support", range(0, 24, 8), n_items=3, seed=1)
    for sound in (tmp_path / "support/thing08").glob("*.wav"):
        sound.unlink()
    for text in (tmp_path / "support").glob("*/*.txt"):
        text.unlink()

    model = learned("image", "audio", "text", model=FUSION).adapt(tmp_path / "support")

    told = [note for note in model.notes if "has '" in note]
    assert told == [
        "no example of class 'thing08' has 'audio', which others have: an item with it may look "
        "less like this class than it is",
        "no item has 'text', at which the model would look as well",
    ]


@pytest.mark.parametrize(
    ("copy", "such_as"),
    [
        ("b", "'b/2.png' of 'b/0.png'"),
        ("a", "'b/0.png' of 'a/2.png', which has another class"),
    ],
)
def test_copies_of_examples_are_reported(tmp_path: Path, copy: str, such_as: str) -> None:
    for number, name in enumerate(("a/0.png", "a/1.png", "b/0.png")):
        path = tmp_path / "new" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 90 + 40 * number).save(path)
    shutil.copy(tmp_path / "new/b/0.png", tmp_path / "new" / copy / "2.png")

    found = metafleet.adapt(learned("image"), tmp_path / "new")

    assert found.notes[-1] == f"1 of 4 examples are copies, such as {such_as}"


def test_a_single_picture_is_predicted(tmp_path: Path) -> None:
    make_classes(tmp_path / "support", range(0, 24, 8), n_items=3, seed=1)
    model = learned("image").adapt(tmp_path / "support")
    lone = tmp_path / "support/thing08/000.png"

    (found,) = model.predict(lone)

    whole = {row.item: row for row in model.predict(tmp_path / "support")}
    assert found.item == "000.png"
    assert found.probabilities == pytest.approx(whole["thing08/000.png"].probabilities, abs=1e-5)


def digits(folder: Path, *, paper: int, ink: int) -> Path:
    """Write a bar of ink on paper for each of three classes, twice."""
    for number in range(3):
        for item in range(2):
            pixels = np.full((8, 8), paper, np.uint8)
            pixels[2 * number + item] = ink
            path = folder / f"bar{number}" / f"{item}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


@pytest.mark.parametrize("is_inverted", [True, False])
def test_light_pictures_are_not_taken_for_dark_ones(tmp_path: Path, is_inverted: bool) -> None:
    base = learned("image", model=CONV)
    blueprint = base.learned.blueprint
    spec = replace(blueprint.inputs["image"], is_inverted=is_inverted, brightness=0.125)
    model = LearnedModel(
        replace(base.learned, blueprint=replace(blueprint, inputs={"image": spec}))
    )
    dark = digits(tmp_path / "board", paper=0, ink=255)
    light = digits(tmp_path / "paper", paper=255, ink=0)
    right, wrong = (light, dark) if is_inverted else (dark, light)

    adapted = model.adapt(right)
    with pytest.raises(DataError) as caught:
        model.adapt(wrong)
    swapped = model.adapt(wrong, ReadOptions(invert=True))
    as_it_is = model.adapt(wrong, ReadOptions(invert=False))
    swapped.save(tmp_path / "model")

    assert "'image' looks inverted: the mean of its pictures is 0.88" in str(caught.value)
    assert "was 0.12 in training; --invert swaps" in str(caught.value)
    rows = {row.item: row.probability for row in adapted.predict(right)}
    kept = metafleet.load_model(tmp_path / "model").predict(wrong)
    assert {row.item: row.probability for row in kept} == rows and not any(
        "inverted" in note for note in kept.notes
    )
    assert {row.item: row.probability for row in as_it_is.predict(wrong)} != rows
    assert any("looks inverted" in note for note in adapted.predict(wrong).notes)
    again = adapted.predict(wrong, ReadOptions(invert=True))
    assert {row.item: row.probability for row in again} == rows


def test_light_and_dark_of_one_support_set_are_none_of_the_next_ones(tmp_path: Path) -> None:
    folder = digits(tmp_path / "paper", paper=255, ink=0)
    first, again = ReadOptions(invert=True), ReadOptions(invert=False)
    base = learned("image", model=CONV)

    metafleet.adapt(base, folder, first).save(tmp_path / "model")
    kept, swapped = (
        metafleet.adapt(tmp_path / "model", folder, options) for options in (again, first)
    )

    def is_inverted(model: metafleet.AdaptedModel) -> bool:
        return model.learned.blueprint.inputs["image"].is_inverted

    assert not is_inverted(metafleet.adapt(base, folder, again))
    assert not is_inverted(kept)
    assert is_inverted(swapped)


@pytest.mark.parametrize(("invert", "option"), [(True, "--invert"), (False, "--no-invert")])
def test_light_and_dark_of_no_pictures_are_neither_swapped_nor_kept(
    tmp_path: Path, invert: bool, option: str
) -> None:
    make_classes(tmp_path / "things", range(0, 24, 8), n_items=2, seed=1)
    (tmp_path / "points.csv").write_text("x,y\n0.5,1.0\n-1,0.25\n")
    texts = learned("image", "text", model={"name": "ngram_bag"})
    options = ReadOptions(invert=invert)
    told = f"{option} is about pictures, but the model looks at "

    with pytest.raises(ConfigError, match=rf"^{told}text and at no picture; leave it out$"):
        texts.adapt(tmp_path / "things", options)
    with pytest.raises(ConfigError, match=f"^{told}text"):
        texts.adapt(tmp_path / "things").predict(tmp_path / "things", options)
    with pytest.raises(ConfigError, match=f"^{told}x"):
        regressor().adapt(tmp_path / "points.csv", options)
    with pytest.raises(ConfigError, match=f"^{told}x"):
        regressor().adapt(tmp_path / "points.csv").predict(tmp_path / "points.csv", options)


@pytest.mark.parametrize(
    ("found", "trained", "inverted"),
    [
        (0.9, 0.1, True),
        (0.2, 0.9, True),
        (0.3, 0.1, False),
        (0.6, 0.1, False),
        (0.99, 0.4, False),
        (0.01, 0.6, False),
    ],
)
def test_pictures_look_inverted_only_where_it_is_plain(
    found: float, trained: float, inverted: bool
) -> None:
    assert looks_inverted(found, trained) is inverted


@pytest.mark.parametrize("brightness", ["light", [1], -0.5, float("nan")])
def test_a_damaged_brightness_is_refused_as_the_model_is_read(brightness: object) -> None:
    spec = learned("image").learned.blueprint.inputs["image"].to_json()

    with pytest.raises(ModelError, match="input 'image': brightness="):
        InputSpec.from_json("image", {**spec, "brightness": brightness})
