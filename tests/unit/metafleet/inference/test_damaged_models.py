"""Models that are damaged or contradict themselves are refused in one line."""

import hashlib
import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from metafleet.errors import ConfigError, DataError, MetafleetError, ModelError
from metafleet.inference import model_folder
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.corrections import correct
from metafleet.inference.loading import load_model
from tests.unit.metafleet.inference.conftest import CLASSES
from tests.unit.metafleet.inference.models import CONV, files_of


def test_no_byte_of_a_description_can_change_without_notice(saved: Path) -> None:
    path = saved / "model.json"
    data, whole, rng = path.read_bytes(), model_folder.read_header(saved), Random(2)
    refused, places = 0, range(0, len(data), 5)
    for at in places:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
        try:
            found = model_folder.read_header(saved)
        except ModelError as error:
            assert "\n" not in str(error)
            refused += 1
        else:  # a blank where JSON allows another
            assert found == whole
    assert refused > 0.6 * len(places)  # the rest is indentation


def _edit(folder: Path, **changes: Any) -> None:
    """Change the description, with a digest that fits."""
    path = folder / "model.json"
    header = json.loads(path.read_text()) | changes
    header["digest"] = model_folder._digest(header)
    path.write_text(json.dumps(header))


def _retensor(folder: Path, **changes: torch.Tensor | None) -> None:
    """Change tensors, with sizes and digests that fit."""
    path = folder / "tensors.safetensors"
    tensors = {**load_file(path), **changes}
    save_file({name: value for name, value in tensors.items() if value is not None}, path)
    data = path.read_bytes()
    _edit(
        folder,
        tensors={"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
    )


def _truncate(folder: Path) -> None:
    path = folder / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def _flip(folder: Path) -> None:
    path = folder / "tensors.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def _nested(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


def _blueprint(folder: Path, **changes: Any) -> None:
    header = json.loads((folder / "model.json").read_text())
    _edit(folder, blueprint=header["blueprint"] | changes)


def _input(folder: Path, **changes: Any) -> None:
    inputs = json.loads((folder / "model.json").read_text())["blueprint"]["inputs"]
    _blueprint(folder, inputs={**inputs, "image": inputs["image"] | changes})


BROKEN = {
    "no description": (lambda f: (f / "model.json").unlink(), "is no model"),
    "no tensors": (lambda f: (f / "tensors.safetensors").unlink(), "cannot be read"),
    "text": (lambda f: (f / "model.json").write_text("hello"), "damaged, or no model of ours"),
    "a list": (lambda f: (f / "model.json").write_text("[1]"), "damaged, or no model of ours"),
    "nested": (lambda f: (f / "model.json").write_text("[" * 10**5), "damaged, or no model"),
    "a letter": (
        lambda f: (f / "model.json").write_text(
            (f / "model.json").read_text().replace("cat", "cut")
        ),
        "does not hash to its digest",
    ),
    "later version": (lambda f: _edit(f, version=2), "this version reads 'metafleet-model' 1"),
    "foreign format": (lambda f: _edit(f, format="keras"), "has format 'keras'"),
    "truncated": (_truncate, "were written: damaged"),
    "a bit": (_flip, "its sha256 differs"),
    "no blueprint": (lambda f: _edit(f, blueprint=3), "description of the model is damaged"),
    "texts in one word": (lambda f: _blueprint(f, texts="abc"), "'abc' in place of modalities"),
    "strange kinds": (lambda f: _blueprint(f, kinds={"x": "image"}), "in place of modalities"),
    "no classes": (lambda f: _edit(f, classes=[["cat", 1]]), "is damaged"),
    "a class twice": (lambda f: _edit(f, classes=[["a", 1], ["a", 1], ["b", 1]]), "is damaged"),
    "unknown learner": (lambda f: _blueprint(f, learner={"name": "oracle"}), "'oracle'"),
    "package": (lambda f: _blueprint(f, learner={"name": "os.path:join"}), "os"),
    "an enormous network": (
        lambda f: _blueprint(f, model={**CONV, "channels": 10**6}),
        "has shape",
    ),
    "a tensor less": (
        lambda f: _retensor(f, **{"params.block0.conv.weight": None}),
        "missing ['params.block0.conv.weight']",
    ),
    "a tensor more": (lambda f: _retensor(f, extra=torch.ones(2)), "unexpected ['extra']"),
    "another shape": (
        lambda f: _retensor(f, **{"params.block0.conv.weight": torch.ones(1)}),
        "has shape [1]",
    ),
    "another precision": (
        lambda f: _retensor(f, **{"params.block0.conv.weight": torch.ones(4, 3, 3, 3).half()}),
        "is torch.float16; the model described by model.json has torch.float32",
    ),
    "whole numbers": (
        lambda f: _retensor(f, **{"params.block0.conv.weight": torch.ones(4, 3, 3, 3).long()}),
        "is torch.int64",
    ),
    "enormous examples": (
        lambda f: _blueprint(f, modalities={"image": [10**9, 10**9]}),
        "description of the model is damaged",
    ),
    "a network beyond counting": (
        lambda f: _blueprint(f, model={"name": "mlp", "hidden": [10**12, 10**12]}),
        "describes a network that cannot be",
    ),
    "needs of letters": (
        lambda f: _edit(f, needs={"required": "image", "optional": []}),
        "expected lists of names",
    ),
    "a step that is none": (
        lambda f: _edit(f, origin={"step": {}}),
        "the origin: step={}; expected a whole number",
    ),
    "an origin that is a list": (lambda f: _edit(f, origin=[1]), "the origin is [1]"),
    "an origin with more than is known": (
        lambda f: _edit(f, origin={"planet": "x"}),
        "the origin has no option 'planet'",
    ),
    "a calibration of nothing": (
        lambda f: _edit(f, calibration={"split": "meta_val", "shapes": []}),
        "the calibration: shapes=[]; expected one or more",
    ),
    "a calibration that is a number": (
        lambda f: _edit(f, calibration=3),
        "the calibration is 3; expected a table",
    ),
    "an input of another shape": (
        lambda f: _input(f, shape=[1, 8, 8]),
        "input 'image' has another shape than the modality",
    ),
    "digests that are none": (
        lambda f: _input(f, encoder={"weights": {"a.safetensors": 3}}),
        "encoder.weights={'a.safetensors': 3}; expected file -> sha256",
    ),
    "nested where nothing reads it": (
        lambda f: _edit(f, extra=_nested(200)),
        "more than 100 levels of lists and tables",
    ),
    "an infinite number of examples": (
        lambda f: _edit(f, classes=[["cat", float("inf")], ["dog", 2], ["eel", 2]]),
        "damaged, or no model of ours",
    ),
    "a class that controls the terminal": (
        lambda f: _edit(f, classes=[["\x1b]0;cat\a", 2], ["dog", 2], ["eel", 2]]),
        "is not printable",
    ),
    "a class of fewer than no examples": (
        lambda f: _edit(f, classes=[["cat", -1], ["dog", 2], ["eel", 2]]),
        "class 'cat' of -1 examples",
    ),
    "a class of endless examples": (
        lambda f: _edit(f, classes=[["cat", 10**400], ["dog", 2], ["eel", 2]]),
        "is damaged",
    ),
    "an endless difficulty": (lambda f: _edit(f, difficulty=10**400), "difficulty 1000"),
    "a layer of 2**63 numbers": (
        lambda f: _blueprint(f, model={**CONV, "channels": 2**63}),
        "describes a network that cannot be",
    ),
    "a size of several lines": (
        lambda f: _edit(f, tensors={"bytes": "a\nb", "sha256": ""}),
        "bytes; 'a\\nb' were written",
    ),
    "endless layers": (
        lambda f: _blueprint(f, model={"name": "mlp", "hidden": [1] * 20_000}),
        "hidden layers=20000; expected 80 or fewer",
    ),
}


SUPPORT = {
    "no pictures": ("support.image", None),
    "pictures of another shape": ("support.image", torch.ones(6, 3, 9, 9)),
    "pictures of another type": ("support.image", torch.ones(6, 3, 8, 8, dtype=torch.float64)),
    "a class that does not exist": ("targets", torch.tensor([0, 0, 1, 1, 2, 3])),
    "a negative class": ("targets", torch.tensor([0, 0, 1, 1, 2, -1])),
    "half classes": ("targets", torch.ones(6, dtype=torch.float16)),
    "complex classes": ("targets", torch.ones(6, dtype=torch.complex64)),
}


@pytest.mark.parametrize("how", SUPPORT)
def test_a_model_with_a_damaged_support_set_is_refused_in_one_line(saved: Path, how: str) -> None:
    name, tensor = SUPPORT[how]
    _retensor(saved, **{f"support.{name}": tensor})

    with pytest.raises(ModelError, match="the support set of the model is damaged") as caught:
        load_model(saved)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", BROKEN)
def test_a_damaged_or_foreign_model_is_refused_in_one_line(saved: Path, how: str) -> None:
    damage, expected = BROKEN[how]
    damage(saved)

    with pytest.raises((ModelError, ConfigError)) as caught:
        load_model(saved)

    assert isinstance(caught.value, MetafleetError)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("kind", "tuned", "kind 'tuned'"),
        ("classes", [], "0 classes"),
        ("needs", {"required": ["smell"], "optional": []}, "needs .'smell'"),
        ("needs", {"required": [], "optional": []}, r"needs \[\]"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(
    saved: Path, part: str, value: object, message: str
) -> None:
    _edit(saved, **{part: value})

    with pytest.raises(ModelError, match=message):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "cannot predict: KeyError"),
        (torch.randn(3, 9), "cannot predict: RuntimeError"),
    ],
)
def test_what_adapting_left_is_refused_where_nothing_can_be_predicted_by_it(
    saved: Path, change: torch.Tensor | None, message: str
) -> None:
    _retensor(saved, **{"memory.fitted.prototypes": change})
    model = load_model(saved)
    assert isinstance(model, AdaptedModel)

    with pytest.raises(ModelError, match=message):
        model.predict({"image": torch.rand(2, 3, 8, 8)})


def test_more_classes_than_outputs_are_refused(saved: Path) -> None:
    _edit(saved, classes=[[name, 2] for name in (*CLASSES, "fox")])
    model = load_model(saved)
    assert isinstance(model, AdaptedModel)

    with pytest.raises(ModelError, match="3 outputs and 4 classes"):
        model.predict({"image": torch.rand(2, 3, 8, 8)})


def test_a_damaged_model_may_be_replaced(saved: Path) -> None:
    model, before = load_model(saved), files_of(saved)
    _edit(saved, version=2)
    (saved / "tensors.safetensors").unlink()

    model.save(saved, force=True)

    assert files_of(saved) == before


@pytest.mark.parametrize("name", ["model.json", "tensors.safetensors"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(
    saved: Path, name: str
) -> None:
    (saved / name).unlink()
    os.mkfifo(saved / name)

    with pytest.raises(ModelError, match="no plain file"):
        load_model(saved)


def test_corrections_read_otherwise_than_the_support_set_are_refused(
    saved: Path, tmp_path: Path
) -> None:
    inputs = json.loads((saved / "model.json").read_text())["blueprint"]["inputs"]
    inputs["image"]["options"]["side"] = 16
    _blueprint(saved, inputs=inputs)
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (16, 16)).save(photos / "a.png")
    (tmp_path / "queue.csv").write_text(f"item,label,folder\na.png,cat,{photos}\n")
    model = load_model(saved)
    assert isinstance(model, AdaptedModel)

    with pytest.raises(DataError, match=r"'image' is float32 \[1, 3, 16, 16\]; expected"):
        correct(model, tmp_path / "queue.csv")
