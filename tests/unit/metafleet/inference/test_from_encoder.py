"""Models made of an encoder and a head: what they answer, and what they refuse."""

import json
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metafleet
from metafleet.encoders import registry
from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.errors import ConfigError, DataError, DataMissingError, ModelError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.from_encoder import HEADS, TEXT_HEADS, few_shot_model, read_encoders
from tests.menagerie import make_classes
from tests.unit.metafleet.encoders.tiny_models import write_vit

COLOURS, PITCHES = "package:colours", "package:pitches"


class Colours(PretrainedEncoder):
    """The mean red, green and blue of a picture, far from zero."""

    name, kinds = COLOURS, frozenset(("image",))
    weights = "a" * 64

    def __init__(self, pooling: str = "") -> None: ...

    def reading(self, kind: str) -> Mapping[str, Any]:
        return {"side": 8, "channels": 3}

    def identity(self) -> Mapping[str, Any]:
        return {"weights": {"colours": self.weights}, "rule": (1, 2), "versions": {"numpy": "1"}}

    def n_features(self, shape: tuple[int, ...]) -> int:
        return 3

    def encode(self, items: Array) -> Array:
        found: Array = items.mean(axis=(2, 3), dtype=np.float32) + 1000
        return found


class Pitches(Colours):
    """The spectrum of a wave."""

    name, kinds = PITCHES, frozenset(("audio",))

    def reading(self, kind: str) -> Mapping[str, Any]:
        return {"sample_rate_hz": 8000, "form": "wave"}

    def n_features(self, shape: tuple[int, ...]) -> int:
        return shape[0] // 20

    def encode(self, items: Array) -> Array:
        spectrum = np.abs(np.fft.rfft(items))[:, : items.shape[1] // 20 * 10]
        found: Array = spectrum.reshape(len(items), -1, 10).mean(axis=2).astype(np.float32)
        return found


@pytest.fixture(autouse=True)
def packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two encoders that need no weights, as if they came in packages."""
    made = {"colours": Colours, "pitches": Pitches}
    monkeypatch.setattr(registry, "PACKAGED", {**registry.PACKAGED, **made})
    registry._made.cache_clear()


@pytest.fixture
def things(tmp_path: Path) -> Path:
    make_classes(tmp_path / "known", range(0, 24, 5), n_items=3, seed=1)
    make_classes(tmp_path / "asked", range(0, 24, 5), n_items=3, seed=2)
    return tmp_path


def share_right(model: AdaptedModel, folder: Path) -> float:
    found = model.predict(folder).rows
    return sum(row.given == row.label for row in found) / len(found)


@pytest.mark.parametrize("head", [head for head in HEADS if head not in TEXT_HEADS])
def test_a_folder_becomes_a_classifier_that_comes_back_from_disk(things: Path, head: str) -> None:
    model = metafleet.few_shot_model({"image": COLOURS}, head=head).adapt(things / "known")
    assert share_right(model, things / "asked") == 1.0
    model.save(things / "pets.model")

    again = metafleet.load_model(things / "pets.model")

    assert isinstance(again, AdaptedModel)
    expected, found = (m.predict(things / "asked") for m in (model, again))
    assert found.rows == expected.rows
    assert dict(again.classes) == {f"thing{n:02d}": 3 for n in range(0, 24, 5)}
    kept = json.loads((things / "pets.model" / "model.json").read_text())
    assert kept["blueprint"]["inputs"]["image"]["encoder"]["weights"] == {"colours": "a" * 64}
    card = (things / "pets.model" / "README.md").read_text()
    assert "Nothing was trained" in card and "package:colours" in card


def test_items_may_lack_one_of_two_modalities(things: Path) -> None:
    learned = few_shot_model(
        {"image": COLOURS, "audio": PITCHES}, kind_options={"audio": {"duration_s": 0.5}}
    )
    model = learned.adapt(things / "known")  # every third item lacks its sound
    assert model.needs.required == () and set(model.needs.optional) == {"image", "audio"}
    assert learned.learned.blueprint.problem.modalities == {"image": (3,), "audio": (200,)}

    for path in (things / "asked").rglob("*.png"):
        if path.stem == "000":
            path.unlink()

    assert share_right(model, things / "asked") == 1.0


def test_another_encoder_than_the_models_is_refused_in_one_line(
    things: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = few_shot_model({"image": COLOURS}).adapt(things / "known")
    model.save(things / "pets.model")
    monkeypatch.setattr(Colours, "weights", "b" * 64)
    again = metafleet.load_model(things / "pets.model")
    assert isinstance(again, AdaptedModel)

    with pytest.raises(ModelError, match=r"other weights here.*bbbb.*expected.*aaaa") as caught:
        again.predict(things / "asked")

    assert "\n" not in str(caught.value)


def test_an_encoder_whose_folder_has_moved_is_given_by_its_new_path(things: Path) -> None:
    write_vit(things / "there")
    model = few_shot_model({"image": f"hf:{things}/there"}).adapt(things / "known")
    model.save(things / "pets.model")
    expected = model.predict(things / "asked").rows
    (things / "there").rename(things / "here")
    lost = metafleet.load_model(things / "pets.model")
    assert isinstance(lost, AdaptedModel)
    with pytest.raises(DataMissingError, match=r"has moved, give --encoder image=hf:PATH$"):
        lost.predict(things / "asked")

    moved = {"image": f"hf:{things}/here"}
    again = metafleet.load_model(things / "pets.model", encoders=moved)

    assert isinstance(again, AdaptedModel)
    assert again.predict(things / "asked").rows == expected


def test_only_the_models_own_encoder_may_be_given_again(things: Path) -> None:
    few_shot_model({"image": COLOURS}).adapt(things / "known").save(things / "pets.model")
    other = {"image": f"hf:{write_vit(things / 'other')}"}

    again = metafleet.load_model(things / "pets.model", encoders=other)

    assert isinstance(again, AdaptedModel)
    with pytest.raises(ModelError, match=r"has other .* here than the model was made with"):
        again.predict(things / "asked")
    with pytest.raises(ConfigError, match="no input 'audio'; its inputs are: image"):
        metafleet.load_model(things / "pets.model", encoders={"audio": PITCHES})


def test_who_adapts_to_another_encoder_is_not_told_to_adapt_again(
    things: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_shot_model({"image": COLOURS}).save(things / "base.model")
    monkeypatch.setattr(Colours, "weights", "b" * 64)

    with pytest.raises(ModelError, match="; install those, or start from a run or model that"):
        metafleet.adapt(things / "base.model", things / "known")


def test_the_card_has_the_command_the_digest_and_the_versions(things: Path) -> None:
    options = {"head_options": {"penalty": 2.0}, "kind_options": {"image": {"storage": "float16"}}}
    model = few_shot_model({"image": COLOURS}, head="ridge", **options)  # type: ignore[arg-type]
    model.adapt(things / "known").save(things / "pets.model")

    card = (things / "pets.model" / "README.md").read_text().split("## How to repeat it\n")[1]

    assert (
        "metafleet adapt --encoder image=package:colours --head ridge --set head.penalty=2.0 --set "
        "image.storage=float16 --support FOLDER --out NEW-MODEL\n" in card
    )
    assert f"| encoder of `image` | colours sha256 {'a' * 16} |" in card
    assert f"| metafleet | {metadata.version('metafleet')} |" in card
    assert "| packages | numpy 1 |" in card
    assert "params" not in card  # there are none


def test_a_model_of_no_run_says_that_a_run_is_needed_for_calibration(things: Path) -> None:
    model = few_shot_model({"image": COLOURS}).adapt(things / "known")

    with pytest.raises(ModelError, match="only a run can be calibrated: train one"):
        model.predict(things / "asked", coverage=0.9)


def test_items_that_the_model_was_adapted_to_are_counted(things: Path) -> None:
    model = few_shot_model({"image": COLOURS}).adapt(things / "known")
    known = things / "known" / "thing00" / "000.png"
    (things / "asked" / "thing00" / "copy.png").write_bytes(known.read_bytes())

    (note,) = model.predict(things / "known").notes[-1:]
    (one,) = model.predict(things / "asked").notes[-1:]

    assert note == (
        "15 of 15 items are examples that the model was adapted to; judge it on other items"
    )
    assert one.startswith("1 of 16 items are examples")


def test_another_version_of_a_library_is_no_other_encoder(
    things: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_shot_model({"image": COLOURS}).adapt(things / "known").save(things / "pets.model")
    monkeypatch.setattr(
        Colours,
        "identity",
        lambda self: {"weights": {"colours": "a" * 64}, "rule": (1, 2), "versions": {}},
    )
    again = metafleet.load_model(things / "pets.model")

    assert isinstance(again, AdaptedModel)
    assert share_right(again, things / "asked") == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": {}}, "needs an encoder"),
        ({"encoder": {"picture": COLOURS}}, "no kind of data 'picture'; expected one of image"),
        ({"encoder": {"audio": COLOURS}}, "takes image; expected one that takes audio"),
        ({"encoder": {"image": "package:none"}}, "there is no encoder 'package:none'"),
        ({"encoder": {"text": "bytes"}}, "'bytes' of 'text' is none"),
        ({"encoder": {"image": COLOURS}, "head": "svm"}, "head='svm'; expected one of cosine"),
        (
            {"encoder": {"image": COLOURS}, "head_options": {"name": "protonet"}},
            "the head has no option 'name'; choose one of cosine_prototypes, ridge",
        ),
        (
            {"encoder": {"image": COLOURS}, "head_options": {"temperature": 0}},
            "temperature=0.0; expected a finite number above 0",
        ),
        (
            {"encoder": {"image": COLOURS}, "head": "ridge", "head_options": {"penalty": -1}},
            "penalty=-1.0; expected 0.001 to 1e.06",
        ),
        ({"encoder": {"image": COLOURS}, "head_options": {"penalty": 1}}, "no option 'penalty'"),
        (
            {"encoder": {"image": COLOURS}, "kind_options": {"audio": {"n_mels": 4}}},
            "'audio' has options but no encoder",
        ),
        (
            {"encoder": {"image": COLOURS}, "kind_options": {"image": {"size": 4}}},
            "kind 'image' has no option 'size'",
        ),
        (
            {"encoder": {"image": COLOURS}, "kind_options": {"image": {"views": 2}}},
            "views=2 of 'image'; expected 1",
        ),
    ],
)
def test_what_does_not_go_together_is_told_in_one_line(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        few_shot_model(**arguments)

    assert "\n" not in str(caught.value)


def test_a_folder_of_another_kind_is_refused_in_one_line(things: Path) -> None:
    for path in (*(things / "known").rglob("*.png"), *(things / "known").rglob("*.txt")):
        path.unlink()
    for path in (things / "known").rglob("*"):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()

    told = r"has audio; the model reads image: none of it is there$"
    with pytest.raises(DataError, match=told) as caught:
        few_shot_model({"image": COLOURS}).adapt(things / "known")

    assert "\n" not in str(caught.value)


def test_class_names_that_look_like_several_labels_are_told(things: Path) -> None:
    names = ("red|round", "red|square", "blue")
    for name, folder in zip(names, sorted((things / "known").iterdir()), strict=False):
        folder.rename(things / "known" / name)
    for folder in (things / "known").glob("thing*"):
        shutil.rmtree(folder)
    learned = few_shot_model({"image": COLOURS})

    (note,) = (note for note in learned.adapt(things / "known").notes if "class names" in note)

    assert note.startswith("2 of 3 class names hold '|', such as 'red|round'; each is one class")
    assert note.endswith("train a run on such data with --label-separator '|', and adapt it")
    (things / "known" / "red|round").rename(things / "known" / "green|round")
    assert not [note for note in learned.adapt(things / "known").notes if "class names" in note]


def test_encoders_are_read_from_words() -> None:
    given = ["image=hf:a/b@c=d", "audio=package:x"]
    assert read_encoders(given) == {"image": "hf:a/b@c=d", "audio": "package:x"}
    for wrong in (["image"], ["=x"], ["image="]):
        with pytest.raises(ConfigError, match="expected KIND=NAME"):
            read_encoders(wrong)
    with pytest.raises(ConfigError, match="two encoders"):
        read_encoders(["image=a", "image=b"])
