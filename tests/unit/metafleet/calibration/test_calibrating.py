"""From validation episodes to a calibration, and what it is worth on other classes."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from metafleet.calibration import calibrating
from metafleet.calibration.calibrating import Calibrator, calibrated
from metafleet.calibration.calibration import Calibration, ShapeCalibration, mean_shots
from metafleet.calibration.conformal import N_LEVELS
from metafleet.calibration.judging import judge_calibration
from metafleet.calibration.temperature import probabilities
from metafleet.episode import META_TEST, META_VAL, EpisodeShape
from metafleet.errors import ConfigError, ModelError, NumericsError
from metafleet.seeds import CounterRng
from tests.unit.metafleet.calibration.episodes import (
    SHAPE,
    calibrator,
    fixed_head,
    nearest_prototypes,
    points,
)


def test_logits_are_those_of_the_learner_on_the_episodes_of_their_addresses() -> None:
    learner, state = nearest_prototypes()
    source = points()
    found = calibrator(source, n_unknown=0, n_episodes=3).logits(SHAPE)

    for index in range(3):
        episode = source.sample(META_VAL, SHAPE, CounterRng(5, META_VAL, 1, index))
        expected = learner.predict(state, episode.support, episode.query.inputs, 3)
        torch.testing.assert_close(found.known[index], expected.double(), rtol=1e-5, atol=1e-5)
        assert torch.equal(found.targets[index], episode.query.targets)
    assert found.unknown.shape == (3, 0, 3)


def test_unknown_queries_are_of_other_classes_than_the_support_set() -> None:
    # points of a class are all one, and of two classes never
    source = points()
    rows = torch.arange(52.0).repeat_interleave(12)[:, None].repeat(1, 6)
    source._modalities["x"] = replace(source._modalities["x"], gather=lambda chosen: rows[chosen])
    logits = calibrator(source, n_unknown=2, n_episodes=20).logits(SHAPE)

    assert logits.known.shape == (20, 12, 3)
    assert logits.unknown.shape == (20, 8, 3)
    assert (logits.known.amax(dim=-1) > -0.01).all()  # at the prototype of their class
    assert (logits.unknown.amax(dim=-1) < -5.9).all()  # one away in each of six numbers


def test_the_same_seed_gives_the_same_calibration_and_another_seed_another() -> None:
    by = calibrator(n_episodes=30)

    first, again = (by.calibrate([(3, 1)]) for _ in range(2))
    other = replace(by, seed=6).calibrate([(3, 1)])

    assert first == again
    assert first != other


def test_a_model_of_distances_is_calibrated_for_classes_drawn_alike() -> None:
    by = calibrator(points(40, 40), n_episodes=400)
    calibration = by.calibrate([(3, 1)]).shapes[0]
    judge = replace(by, split=META_TEST, n_episodes=400)

    found = judge_calibration(
        judge.logits(SHAPE, step=0),
        calibration,
        (0.8, 0.9),
        split=META_TEST,
        n_unknown=3,
        calibrated_on="",
    )

    assert found.loss < found.loss_before
    assert found.ece < 0.03 < found.ece_before
    for each in found.coverage:
        assert each.covered.mean == pytest.approx(each.asked, abs=0.03)
    assert found.coverage[0].set_size.mean < found.coverage[1].set_size.mean
    assert found.unknown is not None
    assert found.unknown.auroc > 0.6
    assert found.unknown.kept.mean == pytest.approx(0.95, abs=0.03)
    assert sum(each.answers for each in found.reliability) == 400 * 12


def test_figures_of_a_judgement_are_those_computed_by_hand() -> None:
    by = calibrator(n_episodes=5)
    logits = by.logits(SHAPE)
    calibration = calibrated(logits, by)
    rule = calibration.unknown
    assert rule is not None

    found = judge_calibration(
        logits, calibration, (0.5,), split=META_VAL, n_unknown=3, calibrated_on=""
    )

    shares = probabilities(logits.known, calibration.temperature)
    sets = 1 - shares <= calibration.thresholds[499]
    per_episode = sets.sum(dim=-1).double().mean(dim=1)
    assert found.coverage[0].set_size.mean == pytest.approx(float(per_episode.mean()))
    error = 1.96 * float(per_episode.std()) / 5**0.5
    assert found.coverage[0].set_size.ci95 == pytest.approx(error)
    refused = [
        float(rule.is_unknown(each, calibration.temperature).double().mean())
        for each in logits.unknown
    ]
    assert found.unknown is not None
    assert found.unknown.refused.mean == pytest.approx(sum(refused) / 5)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ((3, 1), (3, 1, 4)),
        ((3, 10), (3, 10, 2)),  # of 12 items, two are left to ask
        ((3, 40), (3, 11, 1)),
        ((30, 1), (12, 1, 4)),  # the split has 12 classes
    ],
)
def test_where_the_split_lacks_items_or_classes_the_next_smaller_shape_is_taken(
    wanted: tuple[int, int], found: tuple[int, int, int]
) -> None:
    shape = calibrator().fitting(*wanted)

    assert shape is not None
    assert (shape.n_way, shape.k_shot, shape.n_query) == found


def test_large_episodes_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    # 3 * 1 support and 6 * 4 query examples in an episode, 27 in all
    monkeypatch.setattr(calibrating, "MOST_EXAMPLES", 27 * 60 + 26)

    assert calibrator(n_episodes=100).calibrate([(3, 1)]).shapes[0].episodes == 60
    assert calibrator(n_episodes=40).calibrate([(3, 1)]).shapes[0].episodes == 40
    monkeypatch.setattr(calibrating, "MOST_EXAMPLES", 1)
    assert calibrator(n_episodes=100).calibrate([(3, 1)]).shapes[0].episodes == 50


def test_more_ways_and_shots_than_are_of_use_are_not_tried() -> None:
    shape = calibrator(points(200, items=100)).fitting(150, 90)

    assert shape is not None
    assert (shape.n_way, shape.k_shot) == (64, 64)


def test_shapes_that_come_to_the_same_are_calibrated_once() -> None:
    found = calibrator(n_episodes=2).calibrate([(12, 1), (20, 1), (3, 1)])

    assert [str(shape) for shape in found.shapes] == ["12-way 1-shot", "3-way 1-shot"]


def test_a_head_of_fixed_size_is_calibrated_for_its_size_alone() -> None:
    learner, state = fixed_head()
    by = Calibrator(learner, state, points(), SHAPE, seed=1, n_episodes=4)

    found = by.calibrate(by.usual_shapes())

    assert [(s.n_way, s.k_shot) for s in found.shapes] == [(3, 1), (3, 5)]
    few = replace(by, source=points(2))
    with pytest.raises(ConfigError, match="'meta_val' with 2 classes cannot fill episodes"):
        few.calibrate([(3, 1)])


@pytest.mark.parametrize(("asked", "n_unknown"), [(None, 3), (0, 0), (5, 5), (50, 9)])
def test_there_are_as_many_unknown_classes_as_asked_or_as_the_split_has(
    asked: int | None, n_unknown: int
) -> None:
    by = calibrator(n_unknown=asked, n_episodes=2)

    assert by.unknown_for(SHAPE) == n_unknown
    rule = by.calibrate([(3, 1)]).shapes[0].unknown
    assert (rule.n_unknown if rule else 0) == n_unknown


def test_a_split_without_classes_to_spare_has_no_rule_for_unknown_items() -> None:
    found = calibrator(points(3), n_episodes=5).calibrate([(3, 1)])

    assert found.shapes[0].unknown is None


def test_outputs_that_are_not_finite_are_refused() -> None:
    source = points()
    bad = source._modalities["x"]
    source._modalities["x"] = replace(bad, gather=lambda rows: bad.gather(rows) * float("nan"))

    with pytest.raises(NumericsError, match="meta_val step=1 episode=0: an output is not finite"):
        calibrator(source).calibrate([(3, 1)])


def _kept(n_way: int = 5, k_shot: int = 1, **changes: Any) -> ShapeCalibration:
    thresholds = tuple(i / N_LEVELS for i in range(1, N_LEVELS))
    return replace(ShapeCalibration(n_way, k_shot, 10, 2.0, thresholds), **changes)


def test_what_is_kept_comes_back_from_json() -> None:
    found = calibrator(n_episodes=3).calibrate([(3, 1), (2, 5)])

    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    ("n_way", "k_shot", "nearest"),
    [
        (5, 0.0, (5, 1)),
        (5, 1.0, (5, 1)),
        (6, 1.4, (5, 1)),
        (5, 3.5, (5, 5)),
        (40, 1.0, (20, 1)),
        (3, 90.0, (5, 5)),
    ],
)
def test_the_nearest_shape_is_that_of_the_least_ratios(
    n_way: int, k_shot: float, nearest: tuple[int, int]
) -> None:
    kept = Calibration(META_VAL, tuple(_kept(*size) for size in [(5, 1), (5, 5), (20, 1)]))

    found = kept.nearest(n_way, k_shot)

    assert (found.n_way, found.k_shot) == nearest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"thresholds": [0.5]}, "thresholds='...'; expected 999 numbers"),
        ({"thresholds": [1 - i / 1000 for i in range(999)]}, "ascending"),
        ({"n_way": 1}, "n_way=1"),
        ({"k_shot": 0}, "k_shot=0"),
        ({"episodes": 0}, "episodes=0"),
        ({"colour": 1}, "no option 'colour'"),
        ({"unknown": {"score": "smell", "threshold": 0.1, "auroc": 0.5, "n_unknown": 1}}, "smell"),
    ],
)
def test_a_damaged_calibration_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    values = Calibration(META_VAL, (_kept(),)).to_json()
    values["shapes"] = [{**values["shapes"][0], **change}]

    with pytest.raises(ModelError, match=message) as caught:
        Calibration.from_json(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [3, {}, {"split": "meta_val", "shapes": []}])
def test_what_is_no_calibration_is_refused(values: object) -> None:
    with pytest.raises(ModelError):
        Calibration.from_json(values)


def test_shots_are_the_mean_over_classes() -> None:
    assert mean_shots({"a": 1, "b": 4}) == 2.5


def test_what_is_not_size_is_as_in_the_episodes_of_the_run() -> None:
    template = EpisodeShape(3, 1, 2, shots="uneven")

    found = calibrator(shape=template).fitting(4, 2)

    assert found == EpisodeShape(4, 2, 2, shots="uneven")
