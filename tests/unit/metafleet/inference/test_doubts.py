"""What a model says of items that it is not sure of."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metafleet.calibration.calibration import Calibration, ShapeCalibration
from metafleet.calibration.conformal import N_LEVELS
from metafleet.calibration.unknown import UnknownRule
from metafleet.errors import ConfigError, ModelError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.doubts import Doubt, Doubter
from metafleet.inference.prediction import Prediction
from metafleet.inference.prediction_file import write_predictions
from tests.unit.metafleet.inference.models import learned, regressor, support_of

CLASSES = {"cat": 2, "dog": 2, "eel": 2}
RULE = UnknownRule("probability", 0.5, 0.9, 3)
# the set of coverage c has all labels of probability 1 - c and more
SHAPE = ShapeCalibration(3, 2, 100, 2.0, tuple(i / N_LEVELS for i in range(1, N_LEVELS)), RULE)
IMAGES = {"image": torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))}


def _logits(*shares: list[float]) -> torch.Tensor:
    """Logits that are these probabilities at temperature 2."""
    return 2 * torch.tensor(shares, dtype=torch.float64).log()


def _doubter(
    coverage: float | None = 0.9, *, unknown: bool = False, shape: ShapeCalibration = SHAPE
) -> Doubter:
    calibration = Calibration("meta_val", (shape,))
    return Doubter.of(CLASSES, calibration, coverage=coverage, unknown=unknown)


def test_a_set_has_the_labels_within_the_threshold_the_likeliest_first() -> None:
    logits = _logits([0.2, 0.7, 0.1], [0.01, 0.01, 0.98], [0.34, 0.33, 0.33])

    found = _doubter(0.85).doubts(logits)

    assert [doubt.labels for doubt in found] == [
        ("dog", "cat"),
        ("eel",),
        ("cat", "dog", "eel"),
    ]
    assert {doubt.unknown for doubt in found} == {None}
    # a low coverage: the set of an item without a likely label is empty
    assert [d.labels for d in _doubter(0.5).doubts(logits)] == [("dog",), ("eel",), ()]


def test_items_below_the_threshold_are_of_none_of_the_classes() -> None:
    logits = _logits([0.2, 0.7, 0.1], [0.34, 0.33, 0.33])

    found = _doubter(None, unknown=True).doubts(logits)

    assert found == [Doubt(None, False), Doubt(None, True)]


@pytest.mark.parametrize(
    ("doubt", "asks"),
    [
        (Doubt(), False),
        (Doubt(("cat",)), False),
        (Doubt(()), True),
        (Doubt(("cat", "dog")), True),
        (Doubt(("cat",), False), False),
        (Doubt(("cat",), True), True),
        (Doubt(None, True), True),
        (Doubt(None, False), False),
    ],
)
def test_a_person_is_asked_about_what_has_not_one_label_or_is_unknown(
    doubt: Doubt, asks: bool
) -> None:
    assert Prediction("a", "cat", 0.9, {"cat": 0.9}, doubt=doubt).asks_a_person == asks


def test_tables_have_the_columns_that_were_asked_for(tmp_path: Path) -> None:
    plain = Prediction("a.png", "cat", 0.5, {"cat": 0.5, "dog": 0.5})
    rows = [
        replace(plain, doubt=Doubt(("cat", "dog"), False)),
        replace(plain, doubt=Doubt((), True)),
        replace(plain, doubt=Doubt(("cat",), False)),
    ]

    write_predictions(rows, tmp_path / "a.csv")
    write_predictions([replace(plain, doubt=Doubt(("cat",)))], tmp_path / "b.csv")
    write_predictions([plain], tmp_path / "c.csv")
    write_predictions([rows[0], plain], tmp_path / "d.jsonl")

    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "item,label,probability,given,labels,unknown,verdict,p(cat),p(dog)",
        "a.png,cat,0.5,,cat | dog,no,ask a person,0.5,0.5",
        "a.png,cat,0.5,,,yes,ask a person,0.5,0.5",
        "a.png,cat,0.5,,cat,no,accept,0.5,0.5",
    ]
    assert (tmp_path / "b.csv").read_text().splitlines()[1] == "a.png,cat,0.5,,cat,accept,0.5,0.5"
    assert (tmp_path / "c.csv").read_text().startswith("item,label,probability,given,p(cat)")
    first, second = map(json.loads, (tmp_path / "d.jsonl").read_text().splitlines())
    assert first["labels"] == ["cat", "dog"]
    assert (first["unknown"], first["verdict"]) == (False, "ask a person")
    assert "doubt" not in second and "verdict" not in second


def _model(calibration: Calibration | None) -> AdaptedModel:
    model = learned("image")
    adapted = model.adapt_to(support_of(model), CLASSES)
    return adapted if calibration is None else adapted.with_calibration(calibration)


def test_a_model_tells_doubts_of_the_probabilities_that_it_gives() -> None:
    model = _model(Calibration("meta_val", (SHAPE,)))

    found = model.predict(IMAGES, coverage=0.7, unknown=True)

    for row in found:
        within = {name for name, p in row.probabilities.items() if 1 - p <= 0.7}
        assert set(row.doubt.labels) == within
        assert row.doubt.unknown == (row.probability < RULE.threshold)
    assert len(found.notes) == 2
    assert "coverage 0.7 holds for classes and items drawn like those" in found.notes[0]
    assert found.notes[1].startswith(
        "unknown: in validation episodes with 3 other classes, a known item scored higher than an "
        "unknown one in 90 % of pairs"
    )
    assert all(row.doubt == Doubt() for row in model.predict(IMAGES))
    assert model.predict(IMAGES).notes == ()


def test_notes_say_where_the_calibration_is_of_another_shape() -> None:
    shape = replace(SHAPE, n_way=5, k_shot=1)

    notes = _doubter(0.9, shape=shape).notes

    assert len(notes) == 2
    assert notes[1] == (
        "calibrated on 5-way 1-shot episodes, the nearest to this model's 3 classes of 2 examples "
        "each: coverage and thresholds are off by what this changes"
    )
    uneven = {"cat": 1, "dog": 3, "eel": 2}
    told = Doubter.of(uneven, Calibration("meta_val", (SHAPE,)), coverage=0.9, unknown=False)
    assert "3 classes of 1 to 3 examples each" in told.notes[1]


def test_notes_say_where_there_are_too_few_episodes_for_a_coverage() -> None:
    shape = replace(SHAPE, thresholds=(0.5,) * 899 + (1.0,) * 100)

    assert any("every set has every label" in note for note in _doubter(0.95, shape=shape).notes)
    assert not any("every set" in note for note in _doubter(0.8, shape=shape).notes)


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1.0, 90.0, float("nan")])
def test_a_coverage_out_of_range_is_refused(coverage: float) -> None:
    with pytest.raises(ConfigError, match=r"coverage=.*; expected a number between 0 and 1"):
        _doubter(coverage)


def test_a_model_without_calibration_says_in_one_line_what_to_do() -> None:
    model = _model(None)

    assert len(model.predict(IMAGES)) == 4
    with pytest.raises(ModelError, match=r"no calibration.*metafleet adapt RUN --supp") as caught:
        model.predict(IMAGES, coverage=0.9)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="no calibration"):
        model.predict(IMAGES, unknown=True)


def test_a_calibration_without_unknown_classes_says_so() -> None:
    model = _model(Calibration("meta_val", (replace(SHAPE, unknown=None),)))

    assert len(model.predict(IMAGES, coverage=0.9)) == 4
    with pytest.raises(ModelError, match="more than 3 validation classes"):
        model.predict(IMAGES, unknown=True)


def test_a_regression_has_no_labels() -> None:
    model = regressor()
    support = support_of(model, n_way=2)
    adapted = model.adapt_to(type(support)(support.inputs, torch.rand(len(support), 1)), {})

    with pytest.raises(ConfigError, match="about classes; the model predicts values"):
        adapted.predict({"x": torch.rand(3, 1)}, coverage=0.9)
