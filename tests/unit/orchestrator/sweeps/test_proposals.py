"""Proposals depend on seed and results alone, and learn where they should."""

import math
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from metafleet.errors import ConfigError
from metafleet.orchestrator.sweeps.proposals import Outcome, propose, require_sampler
from metafleet.orchestrator.sweeps.space import parse_space

SPACE = parse_space(
    ["outer.lr=log:0.0001..1", "learner.inner_steps=1..4", "model.hidden=[8],[16, 16]"]
)


def search(sampler: str, n_trials: int, *, seed: int = 0) -> list[Outcome]:
    found: list[Outcome] = []
    for number in range(n_trials):
        values = propose(SPACE, sampler, seed=seed, number=number, earlier=found)
        found.append(Outcome(values, score(values)))
    return found


def score(values: Mapping[str, Any]) -> float:
    """The best is a learning rate of 0.3, four steps and the wide network."""
    wrong = abs(values["outer.lr"] - 0.3) + 0.2 * (4 - values["learner.inner_steps"])
    return -wrong - (0.2 if values["model.hidden"] == [8] else 0.0)


def test_a_grid_is_every_combination_once() -> None:
    space = parse_space(["outer.lr=1,2", "outer.steps=3,4,5"])
    found = [propose(space, "grid", seed=0, number=n, earlier=[]) for n in range(6)]

    assert {(one["outer.lr"], one["outer.steps"]) for one in found} == {
        (lr, steps) for lr in (1, 2) for steps in (3, 4, 5)
    }


def test_random_proposals_are_spread_over_the_space() -> None:
    found = [outcome.values for outcome in search("random", 2000)]

    steps = Counter(values["learner.inner_steps"] for values in found)
    assert sorted(steps) == [1, 2, 3, 4] and min(steps.values()) > 400
    rates = [values["outer.lr"] for values in found]
    assert min(rates) >= 0.0001 and max(rates) <= 1
    assert sum(rate < 0.01 for rate in rates) / 2000 == pytest.approx(0.5, abs=0.05)
    assert {str(values["model.hidden"]) for values in found} == {"[8]", "[16, 16]"}


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_the_same_seed_and_results_give_the_same_proposal(sampler: str) -> None:
    first, again = search(sampler, 12), search(sampler, 12)

    assert first == again
    assert search(sampler, 3, seed=1) != first[:3]
    assert len({str(outcome.values) for outcome in first}) == 12


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_that_learns_finds_better_ones_than_chance(sampler: str) -> None:
    def mean_of_last(name: str) -> float:
        found = [search(name, 25, seed=seed)[15:] for seed in (0, 1)]
        scores = [outcome.score or 0.0 for outcomes in found for outcome in outcomes]
        return sum(scores) / len(scores)

    assert mean_of_last(sampler) > mean_of_last("random") + 0.1


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_open_and_failed_trials_are_no_results(sampler: str) -> None:
    earlier = search("random", 8)
    earlier[3] = Outcome(earlier[3].values, None)
    earlier[5] = Outcome(earlier[5].values, None, has_failed=True)

    found = propose(SPACE, sampler, seed=0, number=8, earlier=earlier)
    assert found.keys() == {parameter.key for parameter in SPACE}


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_an_infinite_loss_gives_no_warning(sampler: str) -> None:
    earlier = search("random", 8)
    earlier[3] = Outcome(earlier[3].values, -math.inf)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        propose(SPACE, sampler, seed=0, number=8, earlier=earlier)


@pytest.mark.parametrize("package", ["optuna", "scipy"])
def test_without_its_packages_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    require_sampler("random")
    with pytest.raises(ConfigError, match=r"pip install 'metafleet\[sweep\]'"):
        require_sampler("gp")
