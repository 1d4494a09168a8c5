"""A model in a folder is whole or not there, and anything else is refused in one line."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metafleet.errors import ConfigError, ModelError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.loading import load_model
from metafleet.models.batch_norm import MODES, BatchNormMode
from metafleet.problem import Problem
from tests.unit.metafleet.inference.conftest import CLASSES
from tests.unit.metafleet.inference.models import CONV, SHAPE, files_of, learned, support_of


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


def test_a_folder_that_is_no_model_is_never_replaced(saved: Path, tmp_path: Path) -> None:
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


def test_a_model_folder_with_other_files_is_never_replaced(saved: Path) -> None:
    model = load_model(saved)
    (saved / "thesis.tex").write_text("words")
    before = files_of(saved)

    with pytest.raises(ModelError, match=r"holds 'thesis\.tex' as well, so it is left alone"):
        model.save(saved, force=True)

    assert files_of(saved) == before


def test_a_description_cannot_name_other_files_as_its_own(saved: Path) -> None:
    (saved / "thesis.txt").write_text("mine")
    path = saved / "model.json"
    files = {"0" * 64: {"file": "thesis.txt", "bytes": 4, "sha256": ""}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "encoder_files": files}))

    with pytest.raises(ModelError, match=r"holds 'thesis\.txt' as well, so it is left alone"):
        learned("image").save(saved, force=True)

    assert (saved / "thesis.txt").read_text() == "mine"


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


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "broken")])
def test_a_model_is_kept_if_moving_the_new_one_into_place_fails(
    saved: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    model, before, rename = load_model(saved), files_of(saved), Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name.endswith(".old") or target.name.endswith(".old"):
            return rename(path, target)
        raise error

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((KeyboardInterrupt, ModelError)):
        model.save(saved, force=True)

    assert files_of(saved) == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_link_to_a_model_stays_a_link_when_the_model_is_replaced(
    saved: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(saved)
    other = learned("image", learner={"name": "maml", "inner_lr": 0.01})

    other.save(link, force=True)

    assert link.is_symlink()
    assert isinstance(load_model(saved), LearnedModel)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "model"]


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


def test_an_edited_card_leaves_the_model_as_it_is_and_is_never_replaced(
    saved: Path, tmp_path: Path
) -> None:
    card = saved / "README.md"
    model, written = load_model(saved), card.read_bytes()
    card.write_text("My own words.")

    load_model(saved).save(tmp_path / "copy")
    with pytest.raises(ModelError, match=r"README\.md was edited, so .*model is left alone"):
        model.save(saved, force=True)

    assert card.read_text() == "My own words."
    assert (tmp_path / "copy" / "README.md").read_bytes() == written
    card.unlink()
    load_model(saved).save(saved, force=True)
    assert card.read_bytes() == written


def test_a_model_from_before_there_were_cards_loads_and_is_replaced(saved: Path) -> None:
    path = saved / "model.json"
    header = json.loads(path.read_text())
    for key in ("record", "card_sha256", "digest"):
        del header[key]
    canonical = json.dumps(header, sort_keys=True).encode()
    path.write_text(json.dumps(header | {"digest": hashlib.sha256(canonical).hexdigest()}))
    (saved / "README.md").write_text("words of the time")

    model = load_model(saved)
    with pytest.raises(ModelError, match=r"holds 'README\.md' as well, so it is left alone"):
        model.save(saved, force=True)
    (saved / "README.md").unlink()
    model.save(saved, force=True)

    assert "No figures are recorded" in (saved / "README.md").read_text()
