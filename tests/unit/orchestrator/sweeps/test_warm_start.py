"""The first configurations of a warm-started sweep."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from metafleet.errors import ConfigError
from metafleet.orchestrator.advice.evidence import Contest, Result
from metafleet.orchestrator.advice.knowledge import Knowledge
from metafleet.orchestrator.sweeps.grammar import parse_space
from metafleet.orchestrator.sweeps.warm_start import first_configurations
from tests.advice import contest, description

CONTESTS = tuple(contest(accuracy) for accuracy in (0.3, 0.4, 0.6, 0.7, 0.9))
KNOWN = Knowledge(description(0.35), CONTESTS, False, ())


def results_of(*scored: tuple[Mapping[str, Any], float]) -> Contest:
    return replace(CONTESTS[0], results=tuple(Result(v, score) for v, score in scored))


def test_the_best_configurations_of_the_space_come_first() -> None:
    space = parse_space(["outer.lr=log:0.001..1.0", "learner.name=maml,protonet"])
    found = first_configurations(KNOWN, space, most=3)

    assert found[0] == {"outer.lr": 0.01, "learner.name": "protonet"}
    assert len(found) == 3 and all(set(each) == set(found[0]) for each in found)


def test_values_outside_the_space_are_left_out() -> None:
    space = parse_space(["outer.lr=log:0.05..1.0", "learner.name=maml,protonet"])
    found = first_configurations(KNOWN, space, most=8)

    assert {each["outer.lr"] for each in found} == {0.1, 1.0}
    assert len(found) == 4


def test_keys_outside_the_space_do_not_count() -> None:
    (first, *others) = first_configurations(KNOWN, parse_space(["outer.lr=0.001,0.01,0.1,1.0"]))

    assert first == {"outer.lr": 0.01} and len(others) == 3


def test_a_parameter_with_a_condition_is_there_only_if_it_is_used() -> None:
    known = replace(
        KNOWN,
        contests=(
            results_of(
                ({"learner.name": "maml", "learner.inner_lr": 0.1}, 0.6),
                ({"learner.name": "maml", "learner.inner_lr": 9.0}, 0.9),
                ({"learner.name": "protonet"}, 0.7),
            ),
        ),
    )
    space = parse_space(
        ["learner.name=maml,protonet", "learner.inner_lr=0.0..1.0 if learner.name=maml"]
    )
    found = first_configurations(known, space)

    assert found == (
        {"learner.name": "protonet"},
        {"learner.name": "maml", "learner.inner_lr": 0.1},
    )


def test_nothing_in_the_space_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no data set has 2 results .* outer.steps"):
        first_configurations(KNOWN, parse_space(["outer.steps=10,20"]))
