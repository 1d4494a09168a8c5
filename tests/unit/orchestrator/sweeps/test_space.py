"""What a sweep searches: what is understood, and what is refused."""

import pytest

from metafleet.errors import ConfigError
from metafleet.orchestrator.sweeps.grammar import parse_space
from metafleet.orchestrator.sweeps.space import (
    Choices,
    Condition,
    Range,
    count_configurations,
    grid_size,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("outer.lr=log:0.001..1", Range("outer.lr", 0.001, 1.0, True)),
        ("outer.lr = 1e-3..0.5", Range("outer.lr", 1e-3, 0.5, False)),
        ("outer.lr=log:1.5e-3..1.0e-1", Range("outer.lr", 1.5e-3, 0.1, True)),
        ("learner.inner_steps=1..8", Range("learner.inner_steps", 1, 8, False)),
        ("model.channels=log:8..512", Range("model.channels", 8, 512, True)),
        ("learner.x=-1.5..-1", Range("learner.x", -1.5, -1.0, False)),
        ("model.channels=32,64", Choices("model.channels", (32, 64))),
        ("outer.optimiser=sgd, adam", Choices("outer.optimiser", ("sgd", "adam"))),
        ("model.hidden=[64, 64],[32]", Choices("model.hidden", ([64, 64], [32]))),
        ("learner.first_order=true,false", Choices("learner.first_order", (True, False))),
        ("episodes.meta_train.n_way=5,20", Choices("episodes.meta_train.n_way", (5, 20))),
    ],
)
def test_an_assignment_is_a_range_or_choices(text: str, expected: Choices | Range) -> None:
    (found,) = parse_space([text])

    assert found == expected
    assert parse_space([str(found)]) == (expected,)
    assert [type(v) for v in vars_of(found)] == [type(v) for v in vars_of(expected)]


NAMES = ["learner.name=maml,protonet"]


def test_a_condition_nests_a_parameter() -> None:
    texts = [*NAMES, "learner.inner_steps=5 if learner.name=maml", "outer.lr=0.1..1"]
    texts.append("learner.x=1..3 if learner.inner_steps=5")
    space = parse_space(texts)

    assert space[1] == Choices("learner.inner_steps", (5,), Condition("learner.name", ("maml",)))
    assert parse_space([str(one) for one in space]) == space
    assert count_configurations(space[:2], limit=10) == 2
    assert count_configurations(space, limit=10) is None
    assert count_configurations((*space[:2], space[3]), limit=10) == 4


def vars_of(parameter: Choices | Range) -> tuple[object, ...]:
    if isinstance(parameter, Choices):
        return parameter.values
    return (parameter.low, parameter.high)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "nothing to search"),
        (["outer.lr"], "has no key or no values"),
        (["=1,2"], "has no key or no values"),
        (["outer.lr="], "has no key or no values"),
        (["outer.lr=1"], "has 1 value; expected 2"),
        (["outer.lr=1,1"], "a value occurs twice"),
        (["outer.lr=3..1"], "outer.lr=3..1 is empty"),
        (["outer.lr=1..1"], "is empty"),
        (["outer.lr=a..b"], "'a' is no number"),
        (["outer.lr=.1..1"], "'.1' is no number"),
        (["outer.lr=0.1..inf"], "inf is no number"),
        (["outer.lr=log:0..1"], "expected LOW above 0"),
        (["outer.lr=1,2", "outer.lr=3,4"], "given twice"),
        (["seed=1,2"], "would change the meta-validation"),
        (["episodes.k_shot=1,5"], "would change the meta-validation"),
        (["episodes.meta_val.n_way=5,20"], "would change the meta-validation"),
        (["validation.episodes=5,20"], "would change the meta-validation"),
        (["data.rotations=true,false"], "would change the meta-validation"),
        (["test.episodes=5,20"], "would change the meta-validation"),
        (["validation.every=5,20"], "would change the meta-validation"),
        (["sweep.seed=5,20"], "would change the meta-validation"),
        (["outer.lr=1..99999999999999999999.0"], "expected numbers up to"),
        (["model.x={a = 1},{a = 2}"], "contains a table"),
        (["model.x=2020-01-01,2020-01-02"], "contains a date"),
        (["model.x=inf,1.0"], "not finite"),
        (["outer.lr=1,2 if learner.name=maml"], "no --over before it lists values of learner.name"),
        (["outer.lr=1,2 if learner.name"], "the condition 'learner.name' has no key or no values"),
        ([*NAMES, "outer.lr=1,2 if learner.name=reptile"], "is never tried; expected one of"),
        ([*NAMES, "outer.lr=1,2", "outer.lr=3,4 if learner.name=maml"], "given twice"),
        ([*NAMES, *(["outer.lr=3,4 if learner.name=maml"] * 2)], "given twice"),
    ],
)
def test_what_is_no_space_is_refused_in_one_line(texts: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_space(texts)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_grid_needs_values() -> None:
    assert grid_size(parse_space(["outer.lr=1,2", "outer.steps=1,2,3"]), limit=10) == 6
    assert grid_size(parse_space(["outer.lr=1,2", "outer.steps=1,2,3"]), limit=5) == 5
    with pytest.raises(ConfigError, match=r"outer\.steps has a range"):
        grid_size(parse_space(["outer.lr=1,2", "outer.steps=1..3"]), limit=10)
