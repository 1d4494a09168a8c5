"""Rankings of configurations for a new data set."""

from dataclasses import replace

import numpy as np
import pytest

from metafleet.orchestrator.advice import fitted
from metafleet.orchestrator.advice.evidence import Contest, Result, key_of
from metafleet.orchestrator.advice.ranking import Ranking
from metafleet.orchestrator.advice.surrogate import Axes, Kernel, Surrogate
from tests.advice import LEARNERS, RATES, contest, description, score, values_of

CONTESTS = [contest(accuracy) for accuracy in (0.3, 0.4, 0.6, 0.7, 0.9)]


def test_near_data_sets_decide() -> None:
    hard = Ranking(description(0.35), CONTESTS).best()
    easy = Ranking(description(0.85), CONTESTS).best()

    assert hard[0].values == values_of(0.01, "protonet")
    assert easy[0].values["learner.name"] == "protonet"
    assert easy[0].values["outer.lr"] > hard[0].values["outer.lr"]
    assert len(hard) == len(RATES) * len(LEARNERS)


def test_reasons_name_the_nearest_contests_first() -> None:
    (first,) = Ranking(description(0.35), CONTESTS).best(1)

    assert {vote.data for vote in first.votes[:2]} == {"set-0.3", "set-0.4"}
    distances = [vote.distance for vote in first.votes]
    assert distances == sorted(distances) and len(distances) == 5
    assert all(vote.runs for vote in first.votes)
    assert 0.5 < first.average_rank < 1.0


def test_the_expected_accuracy_is_near_the_true_one_and_inside_its_interval() -> None:
    ranking = Ranking(description(0.5), CONTESTS)
    values = ranking.best(1)[0].values
    found = ranking.expect(values, 5)

    assert found is not None
    assert found.low < score(0.5, values) < found.high
    assert found.mean == pytest.approx(score(0.5, values), abs=0.1)
    assert found.n_sets == 5 and 0.0 <= found.low < found.high <= 1.0


def test_one_known_set_gives_a_ranking_and_a_wide_interval() -> None:
    only = Ranking(description(0.5), CONTESTS[:1])
    values = only.best(1)[0].values
    alone = only.expect(values, 5)
    many = Ranking(description(0.5), CONTESTS).expect(values, 5)

    assert alone is not None and many is not None
    assert alone.n_sets == 0
    assert alone.high - alone.low > many.high - many.low


def test_many_results_on_the_nearest_set_leave_room_for_the_other_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fitted, "_MOST_RESULTS", 60)
    tried = [values_of(10 ** (-3 * n / 99), "maml") for n in range(100)]
    results = tuple(Result(values, score(0.6, values)) for values in tried)
    contests = [c if c is not CONTESTS[2] else replace(c, results=results) for c in CONTESTS]
    ranking = Ranking(description(0.6), contests)
    found = ranking.expect(values_of(0.1, "protonet"), 5)

    assert ranking.contests[0].results == results
    assert found is not None and found.n_sets == 5


def test_a_share_of_the_results_has_the_best_and_the_worst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contests = [
        replace(CONTESTS[place], results=CONTESTS[place].results[:n])
        for place, n in enumerate((8, 2, 7))
    ]
    ranks = [c.ranks() for c in contests]
    axes = Axes.of([result.values for c in contests for result in c.results])
    assert fitted.Fitted.of(contests, ranks, axes).targets == [
        rank for own in ranks for rank in own
    ]

    monkeypatch.setattr(fitted, "_MOST_RESULTS", 9)
    found = fitted.Fitted.of(contests, ranks, axes)
    assert found.contests == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    for place in range(3):
        own = [found.targets[i] for i, where in enumerate(found.contests) if where == place]
        assert (min(own), max(own)) == (min(ranks[place]), max(ranks[place]))


def test_losses_are_ranked_but_not_expected() -> None:
    results = tuple(Result({"outer.lr": rate}, -loss) for rate, loss in ((0.1, 3.0), (0.01, 1.0)))
    regression = Contest("sinusoid", description(0.5), 0, 10, results)
    ranking = Ranking(description(0.4), [regression])

    assert ranking.best(1)[0].values == {"outer.lr": 0.01}
    assert ranking.expect({"outer.lr": 0.01}, 0) is None


def test_ranks_count_equal_scores_halfway() -> None:
    results = [Result({"a": n}, value) for n, value in enumerate((0.1, 0.5, 0.5, 0.9))]
    found = Contest("s", description(0.5), 5, 1, tuple(results)).ranks()

    assert found == pytest.approx([0.0, 0.5, 0.5, 1.0])
    assert Contest("s", description(0.5), 5, 1, (results[0],)).ranks() == [0.5]


def test_equal_configurations_have_equal_keys() -> None:
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": (1.0, 2.0), "a": 1.0})
    assert key_of({"a": 1}) != key_of({"a": "1"}) and key_of({"a": 1}) != key_of({"a": True})


def test_the_surrogate_interpolates_and_is_unsure_far_away() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((20, 1))
    distances = np.abs(points - points.T)
    targets = [float(np.sin(4 * x)) for x in points[:, 0]]
    kernel = Kernel(0.5, 1.0, 0.5, 1e-6)
    surrogate = Surrogate(distances, np.zeros_like(distances), targets, kernel)

    means, deviations = surrogate.predict(distances, np.zeros_like(distances))
    assert np.allclose(means, targets, atol=1e-2) and deviations.max() < 0.05
    far = np.full((1, 20), 10.0)
    mean, deviation = surrogate.predict(far, far)
    assert mean[0] == pytest.approx(np.mean(targets)) and deviation[0] > 10 * deviations.max()


def test_the_surrogate_predicts_like_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    configs, data = (np.abs(x - x.T) for x in rng.random((2, 6, 1)))
    targets = rng.random(6)
    kernel = Kernel(0.7, 0.4, 0.3, 0.1)
    alike, near = np.exp(-((configs / 0.7) ** 2) / 2), np.exp(-((data / 0.4) ** 2) / 2)
    covariance = alike * (0.3 + 0.7 * near)
    inverse = np.linalg.inv(covariance + 0.1 * np.eye(6))
    scaled = (targets - targets.mean()) / targets.std()
    expected = targets.mean() + targets.std() * covariance @ inverse @ scaled
    spread = targets.std() * np.sqrt(1 - np.diag(covariance @ inverse @ covariance))

    means, deviations = Surrogate(configs, data, list(targets), kernel).predict(configs, data)
    assert np.allclose(means, expected) and np.allclose(deviations, spread)


def test_distances_of_configurations() -> None:
    tried = [
        {"lr": 0.001, "name": "a", "steps": 1},
        {"lr": 0.1, "name": "b", "steps": 3},
        {"lr": 0.01, "name": "a", "extra": True, "steps": 3},
        {"lr": 0.01, "name": "a", "steps": 2},
    ]
    found = Axes.of(tried).distances(tried, tried)

    assert found[0, 1] == pytest.approx(np.sqrt(3.0))  # lr by logarithm, name, steps
    assert found[2, 3] == pytest.approx(np.sqrt(1 + 0.25))  # extra, and half the range of steps
    assert found[0, 3] == pytest.approx(np.sqrt(0.25 + 0.25))
    assert np.array_equal(found, found.T) and not np.diag(found).any()
