"""Models that know how far their probabilities can be relied on."""

from dataclasses import replace
from pathlib import Path

import onnxruntime
import torch

from metafleet.calibration.calibration import Calibration, RelativeThresholds, ShapeCalibration
from metafleet.calibration.conformal import N_LEVELS
from metafleet.calibration.held_out import hold_out
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.loading import load_model
from metafleet.inference.onnx_export import export_onnx
from tests.unit.metafleet.inference.models import CONV, learned, regressor, support_of

CLASSES = {"cat": 2, "dog": 2, "eel": 2}
IMAGES = {"image": torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))}
THRESHOLDS = tuple(i / N_LEVELS for i in range(1, N_LEVELS))
CALIBRATION = Calibration(
    "meta_val",
    (
        ShapeCalibration(3, 2, 100, 4.0, THRESHOLDS),
        ShapeCalibration(10, 1, 100, 9.0, THRESHOLDS),
    ),
)


def _adapted() -> AdaptedModel:
    model = learned("image")
    return model.adapt_to(support_of(model), CLASSES)


def _shares(model: AdaptedModel) -> torch.Tensor:
    rows = [list(found.probabilities.values()) for found in model.predict(IMAGES)]
    return torch.tensor(rows, dtype=torch.float64)


def test_probabilities_are_those_at_the_temperature_of_the_nearest_shape(tmp_path: Path) -> None:
    plain, model = _adapted(), _adapted().with_calibration(CALIBRATION)
    logits = plain.logits(IMAGES).double()
    model.save(tmp_path / "m")

    torch.testing.assert_close(_shares(plain), torch.softmax(logits, dim=1))
    torch.testing.assert_close(_shares(model), torch.softmax(logits / 4.0, dim=1))
    found = load_model(tmp_path / "m")
    assert isinstance(found, AdaptedModel)
    assert found.learned.calibration == CALIBRATION
    torch.testing.assert_close(_shares(found), _shares(model), rtol=1e-4, atol=1e-5)
    assert [row.label for row in model.predict(IMAGES)] == [p.label for p in plain.predict(IMAGES)]


def test_a_model_of_before_has_no_calibration(tmp_path: Path) -> None:
    _adapted().save(tmp_path / "m")

    found = load_model(tmp_path / "m")

    assert isinstance(found, AdaptedModel)
    assert found.calibration is None
    assert found.temperature == 1.0
    assert "calibration" not in (tmp_path / "m/model.json").read_text()


def test_what_is_adapted_to_other_classes_takes_what_is_nearest_to_them() -> None:
    model = learned("image")
    kept = _adapted().with_calibration(CALIBRATION).learned
    eight = {f"class{number}": 1 for number in range(8)}
    support = support_of(model, n_way=8, k_shot=1)

    found = type(model)(kept).adapt_to(support, eight)

    assert found.temperature == 9.0


def test_another_batch_norm_mode_forgets_the_calibration() -> None:
    kept = type(learned("image"))(_adapted().with_calibration(CALIBRATION).learned)

    assert kept.with_batch_norm("support").learned.calibration == CALIBRATION
    assert kept.with_batch_norm("transductive").learned.calibration is None


def test_a_regression_has_no_temperature() -> None:
    model = regressor()
    support = support_of(model, n_way=2)
    points = type(support)(support.inputs, torch.rand(len(support), 1))

    found = model.adapt_to(points, {}).with_calibration(CALIBRATION)

    assert found.calibration is None


def test_the_graph_has_the_probabilities_of_the_model(tmp_path: Path) -> None:
    model = _adapted().with_calibration(CALIBRATION)
    export_onnx(model, tmp_path / "m.onnx")

    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    shares = session.run(["probabilities"], {"image": IMAGES["image"].numpy()})[0]

    torch.testing.assert_close(
        torch.from_numpy(shares).double(), _shares(model), rtol=1e-3, atol=1e-4
    )


def test_a_model_keeps_how_difficult_its_support_set_is(tmp_path: Path) -> None:
    relative = RelativeThresholds(2.0, THRESHOLDS)
    shapes = (replace(CALIBRATION.shapes[0], relative=relative),)
    model = _adapted().with_calibration(Calibration("meta_val", shapes))
    assert model.support is not None
    learned_parts = (model.learned.learner, model.learned.state)
    expected = hold_out(*learned_parts, model.support, 3).difficulty(2.0)
    model.without_support().save(tmp_path / "m")

    found = load_model(tmp_path / "m")

    assert isinstance(found, AdaptedModel)
    assert expected is not None
    assert found.difficulty == model.difficulty == expected
    for row, logits in zip(
        found.predict(IMAGES, coverage=0.7), model.logits(IMAGES).double(), strict=True
    ):
        odds = torch.logit(torch.softmax(logits / 4.0, dim=0)) + expected
        within = {
            name
            for name, p in zip(CLASSES, torch.sigmoid(odds).tolist(), strict=True)
            if 1 - p <= 0.7
        }
        assert set(row.doubt.labels) == within
    again = type(learned("image"))(found.learned).adapt_to(model.support, CLASSES)
    assert again.difficulty == expected
    assert found.with_calibration(CALIBRATION).difficulty is None


def test_copies_in_a_support_set_do_not_make_its_classes_look_easier() -> None:
    relative = RelativeThresholds(2.0, THRESHOLDS)
    shapes = (replace(CALIBRATION.shapes[0], relative=relative),)
    base = learned("image", model={**CONV, "batch_norm": "none"})
    calibrated = type(base)(replace(base.learned, calibration=Calibration("meta_val", shapes)))
    support = support_of(base)
    twice = support.rows(torch.arange(len(support)).repeat_interleave(2))

    once = calibrated.adapt_to(support, CLASSES)
    found = calibrated.adapt_to(twice, dict.fromkeys(CLASSES, 4))

    assert once.difficulty is not None
    assert found.difficulty == once.difficulty
