"""A model in a folder is whole or not there, and anything else is refused in one line."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from metafleet.errors import ConfigError, MetafleetError, ModelError
from metafleet.inference import model_folder
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.loading import load_model
from metafleet.models.batch_norm import MODES, BatchNormMode
from metafleet.problem import Problem
from tests.unit.metafleet.inference.models import CONV, SHAPE, files_of, learned, support_of

CLASSES = {"cat": 2, "dog": 2, "eel": 2}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = learned("image")
    model.adapt_to(support_of(model), CLASSES).save(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_comes_back_with_the_same_bits(saved: Path) -> None:
    original = learned("image")
    adapted = original.adapt_to(support_of(original), CLASSES)

    found = load_model(saved)

    assert isinstance(found, AdaptedModel)
    assert found.classes == CLASSES
    assert found.needs == adapted.needs
    assert found.learned.origin == adapted.learned.origin
    inputs = {"image": torch.rand(5, 3, 8, 8)}
    assert torch.equal(found.logits(inputs), adapted.logits(inputs))


def test_what_modalities_are_made_of_comes_back_and_is_guessed_where_it_was_not_written() -> None:
    problem = Problem(
        {"photo": (3, 8, 8), "words": (48,)},
        0,
        {"meta_train": SHAPE},
        partial=frozenset({"words"}),
        texts=frozenset({"words"}),
        kinds={"photo": "image", "words": "text"},
    )
    blueprint = Blueprint({"name": "protonet"}, {"name": "fusion"}, problem, {})
    older = learned("text", model={"name": "ngram_bag"}).learned.blueprint
    values = older.to_json()
    del values["texts"], values["kinds"]

    assert Blueprint.from_json(json.loads(json.dumps(blueprint.to_json()))) == blueprint
    assert Blueprint.from_json(values) == older


def test_what_a_run_learned_comes_back_and_adapts_to_the_same_bits(tmp_path: Path) -> None:
    model = learned("image", learner={"name": "maml", "inner_lr": 0.01})
    model.save(tmp_path / "learned")

    found = load_model(tmp_path / "learned")

    assert isinstance(found, LearnedModel)
    inputs = {"image": torch.rand(4, 3, 8, 8)}
    first, second = (m.adapt_to(support_of(m), CLASSES).logits(inputs) for m in (model, found))
    assert torch.equal(first, second)


def test_saving_twice_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    found = load_model(saved)
    found.save(tmp_path / "again")

    assert files_of(tmp_path / "again") == files_of(saved)


def test_a_model_is_replaced_only_when_asked(saved: Path) -> None:
    model = load_model(saved)
    before = files_of(saved)
    with pytest.raises(ModelError, match="exists; choose another name, or give --force"):
        model.save(saved)
    model.save(saved, force=True)

    assert files_of(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_what_is_no_model_is_never_replaced(saved: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("words")

    with pytest.raises(ModelError, match="exists and is no model, so it is left alone"):
        load_model(saved).save(precious, force=True)

    assert (precious / "thesis.txt").read_text() == "words"


def test_a_folder_of_files_called_as_a_model_has_them_is_never_replaced(
    saved: Path, tmp_path: Path
) -> None:
    webapp = tmp_path / "webapp"
    webapp.mkdir()
    (webapp / "model.json").write_text('{"format": "layers-model", "weightsManifest": []}')
    before = files_of(webapp)

    with pytest.raises(ModelError, match="webapp exists and is no model, so it is left alone"):
        load_model(saved).save(webapp, force=True)

    assert files_of(webapp) == before


def test_a_model_with_other_files_beside_it_is_never_replaced(saved: Path) -> None:
    model = load_model(saved)
    (saved / "thesis.tex").write_text("words")
    before = files_of(saved)

    with pytest.raises(ModelError, match=r"holds 'thesis\.tex' as well, so it is left alone"):
        model.save(saved, force=True)

    assert files_of(saved) == before


def test_a_damaged_model_may_be_replaced(saved: Path) -> None:
    model, before = load_model(saved), files_of(saved)
    _edit(saved, version=2)
    (saved / "tensors.safetensors").unlink()

    model.save(saved, force=True)

    assert files_of(saved) == before


def test_a_full_disk_leaves_nothing_new_and_keeps_what_was_there(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, before = load_model(saved), files_of(saved)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match=r"cannot be written \(No space left on device\)"):
        model.save(saved, force=True)

    assert files_of(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


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


def _blueprint(folder: Path, **changes: Any) -> None:
    header = json.loads((folder / "model.json").read_text())
    _edit(folder, blueprint=header["blueprint"] | changes)


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
    "endless layers": (
        lambda f: _blueprint(f, model={"name": "mlp", "hidden": [1] * 20_000}),
        "hidden layers=20000; expected 80 or fewer",
    ),
}


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


@pytest.mark.parametrize("trained", ["transductive", "support", "running", "none"])
def test_every_batch_norm_mode_is_kept_and_read_again_or_refused(
    tmp_path: Path, trained: BatchNormMode
) -> None:
    base = learned("image", model={**CONV, "batch_norm": trained})
    inputs = {"image": torch.rand(4, 3, 8, 8)}
    kept = []
    for mode in MODES:
        try:
            chosen = base.with_batch_norm(mode)
        except ConfigError as error:
            assert "\n" not in str(error)
            continue
        kept.append(mode)
        model = chosen.adapt_to(support_of(chosen), CLASSES)
        for written in (model, chosen):
            written.save(tmp_path / "model", force=True)
            found = load_model(tmp_path / "model")
            assert found.learned.learner.batch_norm == mode
            if isinstance(found, AdaptedModel):
                assert torch.equal(found.logits(inputs), model.logits(inputs))

    averaged = ["running", "frozen"] if trained == "running" else []
    expected = ["none"] if trained == "none" else ["transductive", "support", *averaged]
    assert kept == expected


def test_a_mode_of_other_parameters_is_refused_with_those_that_fit() -> None:
    with pytest.raises(ConfigError) as caught:
        learned("image", model={**CONV, "batch_norm": "support"}).with_batch_norm("none")

    assert str(caught.value) == (
        "batch_norm='none' has other parameters than training with 'support' learned; expected "
        "one of 'transductive', 'support'"
    )


def _another_network(model: AdaptedModel) -> AdaptedModel:
    blueprint = replace(model.learned.blueprint, model={**CONV, "batch_norm": "none"})
    return replace(model, learned=replace(model.learned, blueprint=blueprint))


def _other_answers(model: AdaptedModel) -> AdaptedModel:
    blueprint = replace(model.learned.blueprint, model={**CONV, "batch_norm": "transductive"})
    return replace(model, learned=replace(model.learned, blueprint=blueprint))


def _no_package(model: AdaptedModel) -> AdaptedModel:
    blueprint = replace(model.learned.blueprint, model={"name": "elsewhere.nets:Net"})
    return replace(model, learned=replace(model.learned, blueprint=blueprint))


@pytest.mark.parametrize("spoil", [_another_network, _other_answers, _no_package])
def test_a_model_that_would_be_read_otherwise_replaces_nothing(
    saved: Path, spoil: Callable[[AdaptedModel], AdaptedModel]
) -> None:
    before = files_of(saved)
    model = load_model(saved)
    assert isinstance(model, AdaptedModel)
    inputs = support_of(learned("image")).inputs

    with pytest.raises(ModelError, match="not written") as caught:
        spoil(replace(model, sample=inputs)).save(saved, force=True)

    assert "\n" not in str(caught.value) and ".part-" not in str(caught.value)
    assert files_of(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_learned_model_that_would_be_read_otherwise_replaces_nothing(tmp_path: Path) -> None:
    base = learned("image")
    base.save(tmp_path / "base")
    before = files_of(tmp_path / "base")
    blueprint = replace(base.learned.blueprint, model={**CONV, "channels": 5})

    with pytest.raises(ModelError, match="not written"):
        LearnedModel(replace(base.learned, blueprint=blueprint)).save(tmp_path / "base", force=True)

    assert files_of(tmp_path / "base") == before


@pytest.mark.parametrize("name", ["model.json", "tensors.safetensors"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(
    saved: Path, name: str
) -> None:
    (saved / name).unlink()
    os.mkfifo(saved / name)

    with pytest.raises(ModelError, match="no plain file"):
        load_model(saved)
