"""The picture of a learning curve."""

import math
import random
from pathlib import Path

import pytest
from PIL import Image

from metafleet.db.records import EvaluationRecord, OuterStepRecord
from metafleet.errors import ConfigError
from metafleet.orchestrator.runs.curve import draw_learning_curve, smooth
from tests.runs import run_of


def steps(n: int, *, accuracy: bool) -> list[OuterStepRecord]:
    rng = random.Random(5)
    return [
        OuterStepRecord(
            step=i,
            loss=math.nan if i == 7 else 2 / i + rng.random(),
            accuracy=1 - rng.random() / i if accuracy else None,
            grad_norm=1.0,
            lr=1e-3,
            episodes=8,
            step_s=0.1,
        )
        for i in range(1, n + 1)
    ]


def evaluation(split: str, label: str, step: int, *, accuracy: float | None) -> EvaluationRecord:
    return EvaluationRecord(
        step=step,
        split=split,
        label=label,
        episodes=100,
        loss=0.4,
        loss_ci95=0.02,
        accuracy=accuracy,
        accuracy_ci95=None if accuracy is None else 0.01,
        batch_norm="transductive",
    )


def test_a_classification_run_is_drawn_with_validations_test_and_baselines(tmp_path: Path) -> None:
    evaluations = [
        *(evaluation("meta_val", "trained", s, accuracy=0.6 + s / 100) for s in (20, 10, 30)),
        evaluation("meta_test", "trained", 40, accuracy=0.95),
        evaluation("meta_test", "nearest_prototype", 0, accuracy=0.76),
        evaluation("meta_test", "initialisation", 0, accuracy=0.42),
    ]
    path = tmp_path / "deep" / "curve.png"

    draw_learning_curve(path, run_of("demo"), steps(40, accuracy=True), evaluations)

    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 900 and image.height > 900
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 50
    assert [p.name for p in path.parent.iterdir()] == ["curve.png"]


def test_a_regression_run_of_one_step_is_drawn_too(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"

    draw_learning_curve(path, run_of("sinusoid-maml"), steps(1, accuracy=False), [])

    assert path.stat().st_size > 1000


def test_a_run_without_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run 1 has no outer steps to draw yet; train it first"):
        draw_learning_curve(tmp_path / "curve.png", run_of("demo"), [], [])

    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "curve.png"

    with pytest.raises(ConfigError, match=f"{path} cannot be written .*; choose another"):
        draw_learning_curve(path, run_of("sinusoid-maml"), steps(1, accuracy=False), [])


def test_smoothing_averages_neighbours_and_steps_over_what_is_not_finite() -> None:
    rng = random.Random(3)
    noisy = [1.0 + rng.uniform(-0.5, 0.5) for _ in range(400)]
    noisy[10] = math.nan
    noisy[11] = math.inf

    smoothed = smooth(noisy)

    assert len(smoothed) == 400
    assert all(abs(value - 1.0) < 0.3 for value in smoothed)
    assert smooth([2.0]) == [2.0]
