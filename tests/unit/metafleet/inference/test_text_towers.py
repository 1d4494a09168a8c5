"""Heads on an encoder with a text tower: from pictures and names of classes to a saved model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metafleet
from metafleet.encoders import registry
from metafleet.encoders.class_texts import ClassTexts
from metafleet.episode import ExampleSet
from metafleet.errors import (
    ConfigError,
    DataCorruptError,
    DataError,
    MetafleetError,
    ModelError,
)
from metafleet.inference import model_folder
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.corrections import correct
from metafleet.inference.from_encoder import TEXT_HEADS, few_shot_model
from tests.colour_words import RGB, TOWERS, ColourWords, draw


class NoTower(ColourWords):
    """Pictures alone."""

    name, kinds, logit_scale = "package:no-tower", frozenset(("image",)), None


@pytest.fixture(autouse=True)
def packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two encoders that need no weights, as if they came in packages."""
    made = {"colour-words": ColourWords, "no-tower": NoTower}
    monkeypatch.setattr(registry, "PACKAGED", {**registry.PACKAGED, **made})
    registry._made.cache_clear()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder with "known" and "asked" pictures of all colours."""
    draw(tmp_path / "known", RGB, n=3, seed=1)
    draw(tmp_path / "asked", RGB, n=4, seed=2)
    return tmp_path


def share_right(model: AdaptedModel, folder: Path) -> float:
    found = model.predict(folder).rows
    return sum(row.given == row.label for row in found) / len(found)  # type: ignore[union-attr]


@pytest.mark.parametrize("head", TEXT_HEADS)
def test_a_head_with_names_predicts_the_same_when_it_is_read_back(
    pictures: Path, head: str
) -> None:
    learned = few_shot_model({"image": TOWERS}, head=head, prompts=["a {} thing"])
    model = learned.adapt(pictures / "known")
    assert share_right(model, pictures / "asked") == 1.0
    model.save(pictures / "colours.model")

    again = metafleet.load_model(pictures / "colours.model")

    assert isinstance(again, AdaptedModel)
    assert again.predict(pictures / "asked").rows == model.predict(pictures / "asked").rows
    header = json.loads((pictures / "colours.model" / "model.json").read_text())
    assert header["blueprint"]["class_text"]["prompts"] == ["a {} thing"]
    card = (pictures / "colours.model" / "README.md").read_text()
    assert "colour-words encodes the names of the classes as: a {} thing" in card
    assert "Nothing was trained" in card
    with pytest.raises(ModelError, match="the model has no calibration"):
        again.predict(pictures / "asked", coverage=0.9)
    # the saved model still knows how to encode names, for other classes
    fewer = draw(pictures / "fewer", {"red": RGB["red"], "blue": RGB["blue"]}, n=1, seed=3)
    base = metafleet.load_model(pictures / "colours.model")
    assert isinstance(base, AdaptedModel)
    other = metafleet.LearnedModel(base.learned).adapt(fewer)
    assert share_right(other, fewer) == 1.0


@pytest.mark.parametrize("head", TEXT_HEADS)
def test_a_damaged_factor_of_cosines_is_one_line(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ColourWords, "logit_scale", float("nan"))

    with pytest.raises(DataCorruptError, match=r"has the factor nan of cosines.*get its weights"):
        few_shot_model({"image": TOWERS}, head=head)


def test_names_alone_are_enough_for_zero_shot(pictures: Path) -> None:
    learned = few_shot_model({"image": TOWERS}, head="zero_shot")
    model = learned.adapt_to_names(sorted(RGB))
    assert dict(model.classes) == dict.fromkeys(sorted(RGB), 0)

    found = model.predict(pictures / "asked").rows

    assert all(row.given == row.label.replace(" ", "_") for row in found)  # type: ignore[union-attr]
    model.save(pictures / "names.model")
    again = metafleet.load_model(pictures / "names.model")
    assert isinstance(again, AdaptedModel)
    assert again.predict(pictures / "asked").rows == found
    with pytest.raises(ConfigError, match="has no examples, so corrections change nothing"):
        correct(again, pictures / "queue.csv")
    for path in (pictures / "known").rglob("*.png"):
        path.write_bytes(b"not read")  # of a folder, only the names of the classes are read
    from_folder = learned.adapt(pictures / "known").predict(pictures / "asked").rows
    assert [row.probability for row in from_folder] == pytest.approx(  # type: ignore[union-attr]
        [row.probability for row in found]  # type: ignore[union-attr]
    )


def test_the_scale_of_the_encoder_is_used_unless_another_is_given(pictures: Path) -> None:
    for options, scale in (({}, 20.0), ({"scale": 5.0}, 5.0)):
        learned = few_shot_model({"image": TOWERS}, head="zero_shot", head_options=options)
        logits = learned.adapt_to_names(sorted(RGB)).logits({"image": torch.eye(1 + len(RGB))})
        texts = ClassTexts(TOWERS).embed(sorted(RGB))
        np.testing.assert_allclose(logits, scale * texts.T, rtol=1e-5)


def test_several_prompts_give_the_mean_of_their_directions() -> None:
    texts = ClassTexts(TOWERS, ("{}", "a {} thing on green grass"))
    expected = []
    for name in ("red", "dark_grey"):
        rows = []
        for text in (name.replace("_", " "), f"a {name.replace('_', ' ')} thing on green grass"):
            items = np.zeros((1, 64), np.uint8)
            items[0, : len(text)] = np.frombuffer(text.encode(), np.uint8)
            (row,) = ColourWords().encode(items).astype(np.float64)
            rows.append(row / np.sqrt(np.square(row).sum()))
        mean = (rows[0] + rows[1]) / 2
        expected.append(mean / np.sqrt(np.square(mean).sum()))

    np.testing.assert_allclose(texts.embed(["red", "dark_grey"]), expected, rtol=1e-6)


@pytest.mark.parametrize("head", ["tip_adapter", "lp_plus_plus", "text_prototypes"])
def test_examples_correct_a_name_that_misleads(pictures: Path, head: str) -> None:
    """Swap two names. With one example each, names win or lose by the weight of the examples."""
    swapped = {**RGB, "red": RGB["green"], "green": RGB["red"]}
    draw(pictures / "swapped", swapped, n=16, seed=4)
    draw(pictures / "later", swapped, n=4, seed=5)
    zero = few_shot_model({"image": TOWERS}, head="zero_shot").adapt(pictures / "swapped")
    assert share_right(zero, pictures / "later") == pytest.approx(0.75)
    strong = {"tip_adapter": {"alpha": 5.0}, "text_prototypes": {"weight": 0.2}}.get(head, {})

    model = few_shot_model({"image": TOWERS}, head=head, head_options=strong)

    assert share_right(model.adapt(pictures / "swapped"), pictures / "later") == 1.0


@pytest.mark.parametrize("head", ["text_prototypes", "tip_adapter", "lp_plus_plus"])
def test_corrections_change_examples_together_with_their_names(pictures: Path, head: str) -> None:
    learned = few_shot_model({"image": TOWERS}, head=head)
    (pictures / "known" / "red" / "2.png").rename(pictures / "known" / "green" / "9.png")
    model = learned.adapt(pictures / "known")
    queue = pictures / "queue.csv"
    queue.write_text(f"item,label,folder\ngreen/9.png,red,{pictures / 'known'}\n")

    found = correct(model, queue)

    assert dict(found.classes)["red"] == 3 and dict(found.classes)["green"] == 3
    (pictures / "known" / "green" / "9.png").rename(pictures / "known" / "red" / "2.png")
    expected = learned.adapt(pictures / "known")
    for one, other in zip(
        found.predict(pictures / "asked").rows,
        expected.predict(pictures / "asked").rows,
        strict=True,
    ):
        assert one.label == other.label  # type: ignore[union-attr]
        assert one.probability == pytest.approx(other.probability, abs=1e-4)  # type: ignore[union-attr]


def test_tensors_get_the_names_of_their_classes() -> None:
    learned = few_shot_model({"image": TOWERS}, head="tip_adapter")
    rows = torch.eye(1 + len(RGB))[:2]
    model = learned.adapt_to(
        ExampleSet({"image": rows}, torch.tensor([1, 0])), {"red": 1, "blue": 1}
    )
    texts = ClassTexts(TOWERS).embed(["red", "blue"])
    cache = np.exp(-5.5 * (1 - np.eye(2)))[:, ::-1]

    np.testing.assert_allclose(model.logits({"image": rows}), 20.0 * texts.T[:2] + cache, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": {"image": "package:no-tower"}}, "'image' has no text tower.*open_clip:FOLDER"),
        ({"encoder": {"image": TOWERS, "text": TOWERS}}, "compares one kind of data.*give one"),
        ({"prompts": ["a photo"]}, r"prompt='a photo'; expected a line of text with \{\}"),
        ({"prompts": [""]}, r"prompt=''; expected a line of text with \{\}"),
        ({"head": "ridge", "prompts": ["{}"]}, "head 'ridge' reads no prompts; leave them out"),
        ({"head_options": {"scale": 0}}, "scale=0.0; expected a finite number above 0"),
        ({"head": "lp_plus_plus", "head_options": {"scale": 1}}, "no option 'scale'"),
        ({"head": "tip_adapter", "names": ["a", "b"]}, "needs examples of each class, not only"),
        ({"names": ["red"]}, "classes=.'red'.; expected 2 or more different names"),
        ({"names": ["red", ""]}, "the name '' of a class; expected printable words"),
        ({"names": ["red", "_-/"]}, "the name '_-/' of a class; expected printable words"),
        ({"names": ["red", "a\nb"]}, r"the name 'a\\nb' of a class; expected printable words"),
        ({"names": ["red", "\udcff"]}, r"the name '\\udcff' of a class; expected printable words"),
        ({"prompts": ["\udcff {}"]}, r"prompt='\\udcff \{\}'; expected a line of text"),
        ({"names": ["red", "red"]}, "expected 2 or more different names"),
        ({"names": ["red", "Red"]}, "classes 'red' and 'Red' differ only in case, spaces"),
        ({"names": ["dark-red", "dark_red"]}, "'dark-red' and 'dark_red' differ only in case"),
        ({"names": ["red", "a " * 9]}, "'a photo of a .*' is too long for encoder"),
        ({"names": ["red", "x" * 70]}, "is too long for encoder.*shorten the prompt or the name"),
    ],
)
def test_what_names_do_not_go_with_is_one_line(arguments: dict[str, Any], message: str) -> None:
    names = arguments.get("names", ["red", "blue"])
    given = {name: value for name, value in arguments.items() if name != "names"}
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        few_shot_model(
            **{"encoder": {"image": TOWERS}, "head": "zero_shot", **given}
        ).adapt_to_names(names)

    assert "\n" not in str(caught.value)


def test_another_text_tower_than_the_models_is_refused_in_one_line(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = few_shot_model({"image": TOWERS}, head="zero_shot")
    learned.adapt_to_names(["red", "blue"]).save(pictures / "names.model")
    monkeypatch.setattr(ColourWords, "weights", "b" * 64)
    again = metafleet.load_model(pictures / "names.model")

    with pytest.raises(MetafleetError, match=r"other weights here.*expected.*aaaa") as caught:
        metafleet.LearnedModel(again.learned).adapt_to_names(["red", "green"])

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("options", {}, "no encoder of the names of classes"),
        ("shape", [5], "input 'class_text' has another shape than the modality"),
    ],
)
def test_a_damaged_description_of_the_text_tower_is_one_line(
    pictures: Path, part: str, value: object, message: str
) -> None:
    model = few_shot_model({"image": TOWERS}, head="zero_shot").adapt(pictures / "known")
    model.save(pictures / "m")
    header = model_folder.read_header(pictures / "m")
    header["blueprint"]["class_text"]["tower"][part] = value
    header["digest"] = model_folder._digest(header)
    (pictures / "m" / "model.json").write_text(json.dumps(header))

    with pytest.raises(ModelError, match=message):
        metafleet.load_model(pictures / "m")


def test_corrections_without_the_models_text_tower_are_refused(pictures: Path) -> None:
    model = few_shot_model({"image": TOWERS}, head="tip_adapter").adapt(pictures / "known")
    learned = replace(model.learned, blueprint=replace(model.learned.blueprint, class_text=None))
    queue = pictures / "queue.csv"
    queue.write_text(f"item,label,folder\nred/0.png,blue,{pictures / 'asked'}\n")

    with pytest.raises(DataError, match="'class_text' is float32"):
        correct(replace(model, learned=learned), queue)
