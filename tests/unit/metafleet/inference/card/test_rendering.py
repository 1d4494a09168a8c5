"""The card of a model, as the Hub and a person read it."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.card.rendering import render_card
from metafleet.inference.kept_model import KeptModel
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.loading import adapt, load_model
from metafleet.inference.model_record import Figure, ModelRecord, Result
from metafleet.params import digest, flatten_state
from tests.folders import picture, write
from tests.unit.metafleet.inference.models import CONV, ORIGIN, learned, regressor

RESULTS = (
    Result(
        *("meta_test", "trained", 7, 600, 5, 1, 15),
        (Figure("accuracy", 0.98765, 0.00123), Figure("loss", 0.0432, 0.0021)),
        batch_norm="support",
    ),
    Result(
        *("meta_test", "trained", 7, 1000, 5, 5, 15),
        (Figure("accuracy", 0.995, 0.001), Figure("loss", 1e-05, 1e-06)),
        otherwise=("k_shot=5", "meta_test.missing_rate=0.3"),
        batch_norm="support",
    ),
    Result(
        *("meta_test", "initialisation", 0, 600, 5, 1, 15),
        (Figure("accuracy", 0.6, 0.01), Figure("loss", 1.1, 0.1)),
        batch_norm="support",
    ),
)
CONFIG = {"name": "test", "seed": 3, "outer": {"steps": 9, "lr": 1e-05}}


def of_a_run(kind: str) -> LearnedModel:
    model = learned(kind, model=CONV if kind == "image" else {"name": "ngram_bag"})
    record = ModelRecord(RESULTS, CONFIG, data_licence="MIT, Copyright (c) 2015 Brenden Lake")
    origin = replace(model.learned.origin, data="omniglot", seed=3, code="0.6.0+g1234567")
    return LearnedModel(replace(model.learned, record=record, origin=origin))


def card_of(model: LearnedModel | AdaptedModel, folder: Path) -> ModelCard:
    model.save(folder)
    return ModelCard.load(folder / "README.md")


def section(card: ModelCard, heading: str) -> str:
    return card.text.split(f"## {heading}\n")[1].split("\n## ")[0]


def test_the_hub_reads_what_the_model_is_and_reached(tmp_path: Path) -> None:
    data = card_of(of_a_run("image"), tmp_path / "m").data

    assert data.library_name == "metafleet"
    assert data.pipeline_tag == "image-classification"
    assert data.datasets == ["omniglot"]
    assert data.license == "unknown"
    assert {"protonet", "image", "meta-learning"} <= set(data.tags)
    assert data.model_name == "test"
    found = [
        (r.dataset_split, r.task_name, r.metric_type, r.metric_value, r.metric_args["ci95"])
        for r in data.eval_results
    ]
    longer = "5-way 5-shot, 15 query, meta\\_test.missing\\_rate=0.3"
    assert found == [
        ("meta_test", "5-way 1-shot, 15 query", "accuracy", 0.98765, 0.00123),
        ("meta_test", "5-way 1-shot, 15 query", "loss", 0.0432, 0.0021),
        ("meta_test", longer, "accuracy", 0.995, 0.001),
        ("meta_test", longer, "loss", 1e-05, 1e-06),
    ]


def test_a_person_reads_figures_with_intervals_limits_and_licences(tmp_path: Path) -> None:
    model = of_a_run("image")
    card = card_of(model, tmp_path / "m")

    judged = section(card, "Judged on")
    assert "| 98.77 ± 0.12 % | 0.0432 ± 0.0021 |" in judged
    assert "| its network without meta-training | `meta_test` | 5-way 1-shot" in judged
    assert "outer step 7 of 9" in section(card, "Trained on")
    assert "MIT, Copyright (c) 2015 Brenden Lake" in section(card, "Licences")
    assert "| pretrained encoder | none |" in section(card, "Licences")
    assert "judged on these episodes alone" in section(card, "Limits")
    repeat = section(card, "How to repeat it")
    assert digest(flatten_state(model.learned.state)) in repeat
    assert "metafleet evaluate test --split meta_test --episodes 600 --baselines\n" in repeat
    assert (
        "--episodes 1000 --set episodes.k_shot=5 --set episodes.meta_test.missing_rate=0.3\n"
        in repeat
    )
    block = re.search(r"```toml\n(.*?)```", repeat, flags=re.DOTALL)
    assert block is not None and tomllib.loads(block[1]) == CONFIG


def test_an_adapted_model_says_from_what_and_keeps_the_judgement(tmp_path: Path) -> None:
    base = of_a_run("image")
    base.save(tmp_path / "base")
    loaded = load_model(tmp_path / "base")
    assert isinstance(loaded, LearnedModel)
    names = ("cat", "dog | mouse")
    write(tmp_path / "support", {f"{c}/{n}.png": picture(n) for c in names for n in range(2)})

    model = adapt(tmp_path / "base", tmp_path / "support")
    card = card_of(model, tmp_path / "m")

    assert "# test, adapted to 2 classes" in card.text
    adapted = section(card, "Adapted to")
    assert f"the model with digest `{loaded.learned.digest}`, which is from run `abc`" in adapted
    assert r"| dog \| mouse | 2 |" in adapted
    assert "98.77 ± 0.12 %" in section(card, "Judged on")
    assert "of the run's classes, not of those above" in section(card, "Judged on")
    assert next(r.metric_value for r in card.data.eval_results) == 0.98765
    load_model(tmp_path / "m").save(tmp_path / "copy")
    copied = (tmp_path / "copy" / "README.md").read_bytes()
    assert copied == (tmp_path / "m" / "README.md").read_bytes()


def test_an_encoder_is_named_with_its_licence_and_without_its_folder(tmp_path: Path) -> None:
    model = of_a_run("text")
    blueprint = model.learned.blueprint
    for encoder, shown in {
        "package:wordllama": "text: package:wordllama (MIT)",
        "st:/home/me/models/tiny": "text: st:tiny (licence not recorded)",
        "bytes": "none",
    }.items():
        spec = blueprint.inputs["text"]
        spec = replace(spec, options={**spec.options, "encoder": encoder})
        changed = replace(model.learned, blueprint=replace(blueprint, inputs={"text": spec}))

        card = render_card(KeptModel(changed))

        assert f"| pretrained encoder | {shown} |" in card
        assert "/home" not in card


def test_a_model_of_no_run_claims_nothing(tmp_path: Path) -> None:
    encoders = {"image": {"name": "conv4", "channels": 4, "n_blocks": 2}}
    model = learned("image", "text", model={"name": "fusion", "dim": 8, "encoders": encoders})
    model = LearnedModel(replace(model.learned, origin=replace(model.learned.origin, run="")))

    card = card_of(model, tmp_path / "m")

    assert card.data.eval_results is None
    assert card.data.pipeline_tag is None  # of several kinds of data
    assert card.data.datasets is None
    assert "Nothing is recorded" in section(card, "Trained on")
    assert "No figures are recorded" in section(card, "Judged on")
    assert "metafleet submit" not in section(card, "How to repeat it")


def test_a_model_of_functions_has_no_classes(tmp_path: Path) -> None:
    card = card_of(regressor(), tmp_path / "m")

    assert card.data.pipeline_tag == "tabular-regression"
    assert "adapts to a function from a few examples" in card.text
    assert "none of its classes" not in card.text


@pytest.mark.parametrize("damage", [{"results": [{"split": 1}]}, [], {"other": 1}], ids=str)
def test_a_damaged_record_is_refused(damage: object) -> None:
    with pytest.raises(Exception, match="the record"):
        ModelRecord.from_json(damage)


def test_a_record_comes_back() -> None:
    record = ModelRecord(RESULTS, CONFIG, "MIT", "abc")

    assert ModelRecord.from_json(record.to_json()) == record


def test_no_name_in_a_model_adds_a_section_to_its_card() -> None:
    evil = "a`\n\n# Buy\n```\n# Now\n"
    origin = replace(ORIGIN, run=evil, name=evil, data=evil, data_digest=evil, code=evil)
    record = ModelRecord(config={"name": evil, "outer": {"steps": evil}}, adapted_from=evil)
    model = replace(learned("image").learned, origin=origin, record=record)

    card = render_card(KeptModel(model))

    outside = re.sub(r"^(`{3,}).*?^\1$", "", card, flags=re.MULTILINE | re.DOTALL)
    headings = [line for line in outside.splitlines() if line.startswith("# ")]
    assert len(headings) == 1 and "Buy" in headings[0]
