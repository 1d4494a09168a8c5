"""Proposals depend on seed and results alone, and learn where they should."""

import math
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from metafleet.errors import ConfigError
from metafleet.orchestrator.sweeps.by_optuna import Outcome, require_sampler
from metafleet.orchestrator.sweeps.grammar import parse_space
from metafleet.orchestrator.sweeps.proposals import Search
from metafleet.orchestrator.sweeps.space import Parameter, configurations

SPACE = parse_space(
    ["outer.lr=log:0.0001..1", "learner.inner_steps=1..4", "model.hidden=[8],[16, 16]"]
)


NESTED = parse_space(
    [
        "learner.name=maml,protonet,reptile",
        "learner.inner_lr=log:0.001..1 if learner.name=maml",
        "learner.inner_steps=1..3 if learner.name=maml,reptile",
        "learner.inner_lr=0.1,0.2 if learner.name=reptile",
    ]
)


def search(
    sampler: str, n_trials: int, *, seed: int = 0, space: tuple[Parameter, ...] = SPACE
) -> list[Outcome]:
    found: list[Outcome] = []
    asked = Search(space, sampler, seed)
    for number in range(n_trials):
        values = asked.propose(number, dict(enumerate(found)))
        found.append(Outcome(values, score(values) if space is SPACE else 0.1 * (number % 7)))
    return found


def score(values: Mapping[str, Any]) -> float:
    """The best is a learning rate of 0.3, four steps and the wide network."""
    wrong = abs(values["outer.lr"] - 0.3) + 0.2 * (4 - values["learner.inner_steps"])
    return -wrong - (0.2 if values["model.hidden"] == [8] else 0.0)


def test_a_grid_is_every_combination_once() -> None:
    space = parse_space(["outer.lr=1,2", "outer.steps=3,4,5"])
    found = [Search(space, "grid", 0).propose(n, {}) for n in range(6)]

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

    found = Search(SPACE, sampler, 0).propose(8, dict(enumerate(earlier)))
    assert found.keys() == {parameter.key for parameter in SPACE}


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_an_infinite_loss_gives_no_warning(sampler: str) -> None:
    earlier = search("random", 8)
    earlier[3] = Outcome(earlier[3].values, -math.inf)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Search(SPACE, sampler, 0).propose(8, dict(enumerate(earlier)))


@pytest.mark.parametrize("package", ["optuna", "scipy"])
def test_without_its_packages_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    require_sampler("random")
    with pytest.raises(ConfigError, match=r"pip install 'metafleet\[sweep\]'"):
        require_sampler("gp")


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_no_configuration_is_tried_twice_before_all_were(sampler: str) -> None:
    space = parse_space(["outer.lr=0.1,0.2,0.3", "learner.inner_steps=1..4"])

    found = [outcome.values for outcome in search(sampler, 12, space=space)]
    assert len({str(values) for values in found}) == 12
    assert {str(values) for values in found} == {str(values) for values in configurations(space)}


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_nested_keys_are_proposed_only_where_they_belong(sampler: str) -> None:
    found = [outcome.values for outcome in search(sampler, 16, space=NESTED)]

    assert {values["learner.name"] for values in found} == {"maml", "protonet", "reptile"}
    for values in found:
        if values["learner.name"] == "protonet":
            assert values.keys() == {"learner.name"}
            continue
        assert values.keys() == {"learner.name", "learner.inner_lr", "learner.inner_steps"}
        is_maml = values["learner.name"] == "maml"
        assert (values["learner.inner_lr"] in (0.1, 0.2)) is not is_maml
    assert found == [outcome.values for outcome in search(sampler, 16, space=NESTED)]


def test_a_grid_of_nested_keys_is_every_combination_once() -> None:
    space = parse_space(
        ["learner.name=maml,protonet", "learner.inner_steps=1,2,3 if learner.name=maml"]
    )
    found = [Search(space, "grid", 0).propose(number, {}) for number in range(4)]

    assert found == [
        {"learner.name": "maml", "learner.inner_steps": 1},
        {"learner.name": "maml", "learner.inner_steps": 2},
        {"learner.name": "maml", "learner.inner_steps": 3},
        {"learner.name": "protonet"},
    ]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_initial_configurations_come_first(sampler: str) -> None:
    first = ({"outer.lr": 0.5, "learner.inner_steps": 2, "model.hidden": [8]},)
    outside = {"outer.lr": 5.0, "learner.inner_steps": 2, "model.hidden": [9]}
    asked = Search(SPACE, sampler, 0, (*first, outside))
    found: dict[int, Outcome] = {}
    for number in range(12):
        found[number] = Outcome(asked.propose(number, found), 0.1 * number)

    assert [found[0].values, found[1].values] == [*first, outside]
    assert found[2].values == Search(SPACE, sampler, 0).propose(0, {})


def test_a_grid_with_initial_configurations_is_every_combination_once() -> None:
    space = parse_space(["outer.lr=0.1,0.2,0.3", "learner.inner_steps=1,2"])
    first = (
        {"outer.lr": 0.2, "learner.inner_steps": 2},
        {"learner.inner_steps": 1, "outer.lr": 0.3},
    )
    asked = Search(space, "grid", 0, first)
    found = [asked.propose(number, {}) for number in range(6)]

    every = [Search(space, "grid", 0).propose(number, {}) for number in range(6)]
    assert found[:2] == [*first]
    assert found[2:] == [values for values in every if values not in first]
