"""Models of items with several labels: adapted, kept, and asked."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.metrics import average_precision_score

from metafleet.episode import ExampleSet
from metafleet.errors import ConfigError, DataError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.items import ReadOptions
from metafleet.inference.labelling import label_rows, precision_of
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.loading import load_model
from metafleet.inference.onnx_export import export_onnx
from metafleet.inference.prediction_file import write_predictions
from tests.unit.metafleet.inference.models import learned

SUPPORT = "text,labels\ncats sleep,cat\ndogs bark,dog\ncats and dogs,dog; cat\nfish swim,fish\n"
ASKED = "text,labels\na cat,cat\na dog and a fish,fish;dog\nnothing,\nowls,owl\n"


def several() -> LearnedModel:
    """Make an untrained model of texts with several labels."""
    base = learned("text", model={"name": "ngram_bag"})
    blueprint = base.learned.blueprint
    blueprint = replace(
        blueprint,
        learner={"name": "multilabel_protonet"},
        problem=replace(blueprint.problem, label_separator=";"),
    )
    state = blueprint.build().init_state(1)  # type: ignore[attr-defined]
    return LearnedModel.of(blueprint, state, base.learned.origin)


@pytest.fixture
def adapted(tmp_path: Path) -> AdaptedModel:
    (tmp_path / "support.csv").write_text(SUPPORT)
    (tmp_path / "asked.csv").write_text(ASKED)
    return several().adapt(tmp_path / "support.csv")


def test_a_support_set_counts_for_each_label_of_an_item(adapted: AdaptedModel) -> None:
    assert adapted.classes == {"cat": 2, "dog": 2, "fish": 1}


def test_its_targets_are_those_of_the_table(adapted: AdaptedModel, tmp_path: Path) -> None:
    def as_bytes(text: str) -> list[float]:
        return [float(byte) for byte in text.encode().ljust(48, b"\0")]

    texts = ["cats sleep", "cats and dogs", "dogs bark", "fish swim"]
    targets = [[1.0, 0, 0], [1.0, 1, 0], [0, 1.0, 0], [0, 0, 1.0]]
    support = ExampleSet({"text": torch.tensor(list(map(as_bytes, texts)))}, torch.tensor(targets))
    by_hand = several().adapt_to(support, {"cat": 2, "dog": 2, "fish": 1})

    inputs = {"text": torch.tensor([as_bytes("a cat")])}
    torch.testing.assert_close(adapted.logits(inputs), by_hand.logits(inputs))


def test_predictions_are_sigmoids_and_labels_from_the_threshold(
    adapted: AdaptedModel, tmp_path: Path
) -> None:
    rows = list(adapted.predict(tmp_path / "asked.csv"))

    assert [row.item for row in rows] == [f"asked.csv:{n}" for n in (2, 3, 4, 5)]
    assert [row.given for row in rows] == [("cat",), ("dog", "fish"), (), ("owl",)]
    least = sorted(p for row in rows for p in row.probabilities.values())[5]
    by_threshold = list(adapted.predict(tmp_path / "asked.csv", threshold=least))
    assert sum(len(row.labels) for row in by_threshold) == 7
    for row in by_threshold:
        assert row.labels == tuple(la for la, p in row.probabilities.items() if p >= least)
    text = {"text": torch.tensor([[*map(float, b"a cat".ljust(48, b"\0"))]])}
    expected = adapted.logits(text).double().sigmoid()[0].tolist()
    assert list(rows[0].probabilities.values()) == pytest.approx(expected)


def test_a_table_of_predictions_joins_labels_as_the_data_do(
    adapted: AdaptedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = adapted.predict(tmp_path / "asked.csv", threshold=1e-9)

    write_predictions(found.rows, None)
    write_predictions(found.rows, tmp_path / "out.jsonl")

    shown = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert shown[1]["labels"] == "cat;dog;fish" and shown[1]["given"] == "dog;fish"
    assert float(shown[1]["p(fish)"]) == found.rows[1].probabilities["fish"]  # type: ignore[union-attr]
    line = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[1])
    assert line["labels"] == ["cat", "dog", "fish"] and "separator" not in line


def test_a_kept_model_predicts_the_same(adapted: AdaptedModel, tmp_path: Path) -> None:
    adapted.save(tmp_path / "m")

    found = load_model(tmp_path / "m")

    assert isinstance(found, AdaptedModel)
    rows = list(found.predict(tmp_path / "asked.csv"))
    assert rows == list(adapted.predict(tmp_path / "asked.csv"))
    card = (tmp_path / "m" / "README.md").read_text()
    assert "| label | examples |" in card and "It knows no other labels" in card


def test_its_graph_gives_sigmoids(adapted: AdaptedModel, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    export_onnx(adapted, tmp_path / "m.onnx", force=False)

    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    text = torch.tensor([[*map(float, b"a dog".ljust(48, b"\0"))]])
    logits, shares = session.run(["logits", "probabilities"], {"text": text.numpy()})

    assert torch.tensor(shares).sum() != pytest.approx(1.0, abs=1e-3)
    torch.testing.assert_close(torch.tensor(shares), torch.tensor(logits).sigmoid())


@pytest.mark.parametrize("shift", [0.0, 20.0, 100.0, -1000.0])
def test_the_precision_is_that_of_scikit_learn_over_items_with_known_labels(shift: float) -> None:
    # sigmoids of logits above 37 are 1, and those of logits below -745 are 0
    torch.manual_seed(3)
    logits, hot = shift + torch.randn(12, 3), (torch.rand(12, 3) < 0.5)
    hot[0], hot[5] = True, False  # the sixth has none
    given = [
        "; ".join(la for la, has in zip("abc", row, strict=True) if has) for row in hot.tolist()
    ]
    names = list(map(str, range(12)))
    rows = label_rows(names, given, logits, list("abc"), separator=";", threshold=None)
    known = [n for n in range(12) if hot[n].any()]

    found = precision_of(rows)

    score = average_precision_score(hot[known], logits[known], average="macro")
    assert found is not None
    assert found == (pytest.approx(score, abs=1e-6), len(known))
    assert precision_of([replace(row, given=()) for row in rows]) is None


def test_a_bad_question_is_refused_in_one_line(adapted: AdaptedModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"threshold=1\.5; expected a probability"):
        adapted.predict(tmp_path / "asked.csv", threshold=1.5)
    for asked in ({"coverage": 0.9}, {"unknown": True}):
        with pytest.raises(ConfigError, match="coverage and unknown are about one class an item"):
            adapted.predict(tmp_path / "asked.csv", **asked)  # type: ignore[arg-type]
    (tmp_path / "bad.csv").write_text("text,labels\na,cat;;dog\nb,dog\n")
    with pytest.raises(DataError, match=r"bad\.csv:2: 'cat;;dog' has an empty label next to ';'"):
        several().adapt(tmp_path / "bad.csv")
    with pytest.raises(DataError, match="has 1 class"):
        (tmp_path / "one.csv").write_text("text,labels\na,cat\nb,cat\n")
        several().adapt(tmp_path / "one.csv")


def test_a_model_of_one_class_an_item_takes_no_threshold_and_no_separator(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("text,label\na cat,cat\na dog,dog\n")
    model = learned("text", model={"name": "ngram_bag"})

    with pytest.raises(ConfigError, match=r"threshold=0\.3, but the model gives an item one class"):
        model.adapt(tmp_path / "s.csv").predict(tmp_path / "s.csv", threshold=0.3)
    with pytest.raises(ConfigError, match="label_separator=';', but the model gives an item one"):
        model.adapt(tmp_path / "s.csv", ReadOptions(label_separator=";"))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 1, 2]), r"targets are int64 \[3\]; expected float32 \[n, 3\]"),
        (torch.zeros(3, 2), r"targets are float32 \[3, 2\]"),
        (torch.full((3, 3), 0.5), "targets hold other values than 0 and 1"),
    ],
)
def test_targets_of_another_form_are_refused(targets: torch.Tensor, message: str) -> None:
    support = ExampleSet({"text": torch.ones(3, 48)}, targets)

    with pytest.raises(DataError, match=message):
        several().adapt_to(support, {"a": 1, "b": 1, "c": 1})
