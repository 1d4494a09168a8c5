"""Support examples that are held out tell how hard an episode's classes are."""

from dataclasses import replace

import pytest
import torch

from metafleet.calibration.calibration import Calibration, ShapeCalibration
from metafleet.calibration.conformal import N_LEVELS, relative_shares, threshold_of
from metafleet.calibration.held_out import MOST_FOLDS, HeldOut, hold_out
from metafleet.calibration.judging import judge_calibration
from metafleet.calibration.temperature import probabilities
from metafleet.episode import CLASS_TEXT, META_TEST, META_VAL, ExampleSet, presence_key
from metafleet.seeds import CounterRng
from tests.unit.metafleet.calibration.episodes import (
    DIM,
    SHAPE,
    calibrator,
    nearest_prototypes,
    points,
)

FIVE_SHOT = replace(SHAPE, k_shot=5)


def _support(targets: list[int]) -> ExampleSet:
    generator = torch.Generator().manual_seed(2)
    inputs = {"x": torch.randn(len(targets), DIM, generator=generator)}
    return ExampleSet(inputs, torch.tensor(targets))


def _prototypes_without(support: ExampleSet, rows: list[int]) -> torch.Tensor:
    kept = [row for row in range(len(support)) if row not in rows]
    x, targets = support.inputs["x"][kept], support.targets[kept]
    return torch.stack([x[targets == label].mean(dim=0) for label in range(3)])


def test_each_example_is_predicted_from_the_others() -> None:
    learner, state = nearest_prototypes()
    support = _support([0, 0, 1, 2, 1, 0, 1])

    found = hold_out(learner, state, support, 3)

    # the first, second and third of each class; class 2 has one example, which always stays
    folds = [[0, 2], [1, 4], [5, 6]]
    order = [row for fold in folds for row in fold]
    assert torch.equal(found.targets, support.targets[order])
    for fold, logits in zip(folds, found.logits.split(2), strict=True):
        centres = _prototypes_without(support, fold)
        expected = -torch.cdist(support.inputs["x"][fold], centres).square()
        torch.testing.assert_close(logits, expected.double(), rtol=1e-4, atol=1e-4)


def test_of_many_examples_several_are_held_out_together() -> None:
    learner, state = nearest_prototypes()
    support = _support([0] * 12 + [1] * 2 + [2])

    found = hold_out(learner, state, support, 3)

    assert len(found.targets) == 14
    first = [0, MOST_FOLDS, 2 * MOST_FOLDS, 12]
    centres = _prototypes_without(support, first)
    expected = -torch.cdist(support.inputs["x"][first], centres).square()
    torch.testing.assert_close(found.logits[:4], expected.double(), rtol=1e-4, atol=1e-4)


def test_one_example_per_class_tells_nothing() -> None:
    learner, state = nearest_prototypes()

    found = hold_out(learner, state, _support([0, 1, 2]), 3)

    assert found.logits.shape == (0, 3)
    assert found.difficulty(1.0) is None
    assert calibrator(n_episodes=5).calibrate([(3, 1)]).shapes[0].relative is None


def test_names_of_classes_are_hidden_from_examples_that_are_held_out() -> None:
    learner, state = nearest_prototypes()
    seen: list[dict[str, torch.Tensor]] = []
    support = _support([0, 0, 1, 1, 2, 2])
    names = {CLASS_TEXT: torch.ones(6, 64), presence_key(CLASS_TEXT): torch.ones(6)}
    support = replace(support, inputs={**support.inputs, **names})

    class Watched(type(learner)):  # type: ignore[misc]
        """Keeps the queries."""

        def predict_from(self, state, memory, inputs, n_way, *, seed=0):  # type: ignore[no-untyped-def]
            seen.append(dict(inputs))
            return super().predict_from(state, memory, inputs, n_way, seed=seed)

    learner.__class__ = Watched
    hold_out(learner, state, support, 3)

    assert len(seen) == 2
    for inputs in seen:
        assert not inputs[CLASS_TEXT].any()
        assert not inputs[presence_key(CLASS_TEXT)].any()
        assert inputs["x"].any()


def test_the_difficulty_is_a_quantile_of_the_log_odds_against_the_own_class() -> None:
    shares = torch.tensor([0.9, 0.8, 0.4, 0.6, 0.1], dtype=torch.float64)
    logits = 3.0 * torch.stack([shares.log(), (1 - shares).log()], dim=1)

    found = HeldOut(logits, torch.zeros(5, dtype=torch.int64)).difficulty(3.0)

    # 0.9 * (5 - 1) = 3.6, between the fourth and the fifth
    fourth, fifth = (torch.tensor(p / (1 - p)).log().neg() for p in (0.4, 0.1))
    assert found == pytest.approx(float(fourth + 0.6 * (fifth - fourth)))


def test_certain_probabilities_give_finite_difficulties() -> None:
    logits = torch.tensor([[0.0, 1e6], [1e6, 0.0]], dtype=torch.float64)

    found = HeldOut(logits, torch.tensor([0, 0])).difficulty(1.0)

    assert found is not None
    assert 0 < found < 30
    assert relative_shares(probabilities(logits, 1.0), found).isfinite().all()


def test_label_sets_of_harder_classes_are_larger_and_hold_the_right_label_as_often() -> None:
    by = calibrator(points(40, 40, test_noise=1.1), n_episodes=400, shape=FIVE_SHOT)
    calibration = by.calibrate([(3, 5)]).shapes[0]
    judge = replace(by, split=META_TEST)
    logits = judge.logits(FIVE_SHOT, step=0)

    def coverage(of: ShapeCalibration) -> float:
        found = judge_calibration(
            logits, of, (0.9,), split=META_TEST, n_unknown=3, calibrated_on=""
        )
        return found.coverage[0].covered.mean

    assert calibration.relative is not None
    assert coverage(replace(calibration, relative=None)) < 0.85
    assert coverage(calibration) == pytest.approx(0.9, abs=0.03)


def test_relative_thresholds_come_back_and_damaged_ones_are_refused() -> None:
    found = calibrator(n_episodes=3).calibrate([(3, 2)])

    assert found.shapes[0].relative is not None
    assert Calibration.from_json(found.to_json()) == found
    values = found.to_json()
    values["shapes"][0]["relative"]["thresholds"] = [0.5]
    with pytest.raises(Exception, match="expected 999 numbers"):
        Calibration.from_json(values)


def test_sets_are_relative_only_if_the_difficulty_is_known() -> None:
    calibration = calibrator(n_episodes=30).calibrate([(3, 2)]).shapes[0]
    episode = points().sample(META_VAL, replace(SHAPE, k_shot=2), CounterRng(1, META_VAL, 3, 0))
    learner, state = nearest_prototypes()
    logits = learner.predict(state, episode.support, episode.query.inputs, 3)
    shares = probabilities(logits, calibration.temperature)
    relative = calibration.relative
    assert relative is not None

    plain = calibration.label_sets(logits, 0.8, None)
    moved = calibration.label_sets(logits, 0.8, 1.5)

    assert torch.equal(plain, 1 - shares <= calibration.thresholds[799])
    higher = 1 / (1 + (1 - shares) / shares * torch.tensor(-1.5, dtype=torch.float64).exp())
    assert torch.equal(moved, 1 - higher <= threshold_of(relative.thresholds, 0.8))
    assert len(relative.thresholds) == N_LEVELS - 1
