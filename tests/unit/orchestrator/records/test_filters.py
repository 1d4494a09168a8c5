"""The language of filters: what holds, what is unknown, and what is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metafleet.errors import ConfigError
from metafleet.orchestrator.records.parsing import MAX_DEPTH, MAX_LENGTH, parse_filter
from metafleet.orchestrator.records.selecting import Selection

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
RUN: dict[str, Any] = {
    "learner.name": "maml",
    "learner.spaced": "two words",
    "outer.lr": 0.01,
    "best": 0.95,
    "n_way": 0,
    "size": "auto",
    "flag": True,
    "off": False,
    "tags": ["paper", "v2"],
    "no_tags": [],
    "seed": 2**64 - 1,
    "missing": None,
    "created": datetime(2026, 11, 3, 23, 59, 59, tzinfo=UTC),
}


def holds(text: str) -> bool | None:
    return parse_filter(text).holds(RUN.get, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "learner.name=maml",
        "learner.name == maml",
        "learner.name != protonet",
        "learner.name~AM",
        "learner.spaced = 'two words'",
        'learner.spaced="two words"',
        "'learner.name'=maml",
        "outer.lr<0.1 and outer.lr>1e-3",
        "outer.lr=1%",
        "outer.lr=1e-2",
        "outer.lr~0.0",
        "best>=95% AND best <= .95",
        "not outer.lr>0.1",
        "not (learner.name=x or n_way>0)",
        "learner.name=x and n_way=0 or flag",
        "learner.name=maml or n_way=1 and n_way=2",
        "n_way",
        "flag=TRUE",
        "off=false",
        "not off",
        "not missing",
        "size=auto",
        "size!=4",
        "size<b",
        "tags=paper",
        "tags!=draft",
        "no_tags!=draft",
        "tags~PAP",
        f"seed={2**64 - 1}",
        "created<7d",
        "created>12h",
        "created<=1w",
        "created=2026-11-03",
        "created>=2026-11-03",
        "created<=2026-11-03",
        "created<2026-11-04",
        "created>2026-11-02",
        "created=2026-11-03T23:59",
        "created='2026-11-04 00:59+01:00'",
        "created~2026-11",
    ],
)
def test_a_filter_that_holds(text: str) -> None:
    assert holds(text) is True


@pytest.mark.parametrize(
    "text",
    [
        "learner.name=MAML",
        "missing",
        "off",
        "not n_way",
        "outer.lr=fast",
        "outer.lr=1_",
        "size=4",
        "seed=18446744073709551616",
        f"seed={2**64}",
        "tags!=paper",
        "no_tags=paper",
        "created>2026-11-03",
        "created<2026-11-03",
        "created!=2026-11-03",
        "created>7d",
        "missing=1 and learner.name=x",
    ],
)
def test_a_filter_that_does_not_hold(text: str) -> None:
    assert holds(text) is False


@pytest.mark.parametrize(
    "text",
    [
        "missing=1",
        "missing!=1",
        "missing~1",
        "not missing=1",
        "unheard.of<1",
        "outer.lr<fast",
        "not outer.lr<fast",
        "size<5",
        "size>5",
        "flag<1",
        "missing=1 and learner.name=maml",
        "missing=1 or learner.name=x",
    ],
)
def test_what_cannot_be_compared_is_unknown_and_so_is_its_opposite(text: str) -> None:
    assert holds(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("=3", "'=' is unexpected at the start; expected a key such as learner.name"),
        ("a=", "the filter ends after 'a='; expected a value after a="),
        ("a b", "'b' is unexpected after 'a '; expected `and`, `or` or the end"),
        ("a=1 and", "the filter ends after 'a=1 and'; expected a key"),
        ("(a=1", "the filter ends after '(a=1'; expected `and`, `or` or a closing"),
        ("a=1)", r"')' is unexpected after 'a=1'"),
        ("a='x", "a quote is not closed after 'a='"),
        ("a!b", "'!' is unexpected after 'a'"),
        ("''=1", "a key is empty"),
        ("a=and", "'and' is unexpected after 'a='"),
        ("not", "the filter ends"),
        ("x" * (MAX_LENGTH + 1), f"{MAX_LENGTH + 1} characters; expected at most"),
        ("(" * 2000 + "a" + ")" * 2000, f"more than {MAX_DEPTH} parentheses"),
        ("not " * 2000 + "a", f"more than {MAX_DEPTH} parentheses"),
    ],
)
def test_what_is_no_filter_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_filter(text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("status=finishd", "expected one of created, queued, running"),
        ("seed<many", "expected a number"),
        ("seed=1__0", "expected a number"),
        ("seed=" + "9" * 5000, "expected a number"),
        ("best>high", "expected a number"),
        ("created<2026-13-01", "expected a date such as"),
        ("created=yesterday", "or an age such as 7d"),
        ("archived=maybe", "expected true or false"),
    ],
)
def test_a_field_is_compared_only_with_what_it_can_be(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Selection.parse([text])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_many_conditions_in_a_row_are_no_depth() -> None:
    assert holds(" and ".join(["n_way=0"] * 500)) is True
    assert holds(" or ".join(["n_way=1"] * 500)) is False


@given(st.text(alphabet="ab=<>~!()'\" andort1.%", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        found = parse_filter(text)
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert found.holds(RUN.get, NOW) in (True, False, None)


def test_an_age_counts_from_now() -> None:
    made = {"created": NOW - timedelta(minutes=30)}

    assert parse_filter("created<31min").holds(made.get, NOW) is True
    assert parse_filter("created<29.5min").holds(made.get, NOW) is False
    assert parse_filter("created<1800s").holds(made.get, NOW) is False  # it is exactly as old
