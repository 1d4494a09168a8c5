"""Messages: what is sent arrives as it was; anything else is refused in one clear line."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from metafleet.contracts.job import PROTOCOL_VERSION, parse_job, parse_result
from metafleet.errors import ContractError, ProtocolMismatchError
from tests.messages import make_job, make_result

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


def over_the_wire(wire: dict[str, Any]) -> Any:
    return json.loads(json.dumps(wire))


def test_a_job_arrives_as_it_was_sent() -> None:
    job = make_job(signature="f" * 64)

    assert parse_job(over_the_wire(job.to_wire())) == job


def test_a_result_arrives_bit_for_bit_by_either_way_of_writing_it() -> None:
    result = make_result(error="naïve ✓\nline", losses=(0.1 + 0.2, 5e-324, -0.0))

    assert parse_result(json.loads(result.model_dump_json())) == result
    assert parse_result(over_the_wire(result.to_wire())) == result


def test_a_result_without_accuracies_keeps_none() -> None:
    result = make_result(accuracies=())

    assert parse_result(over_the_wire(result.to_wire())).accuracies == ()


def test_a_job_is_about_a_kilobyte_whatever_its_model() -> None:
    job = make_job(run="r" * 64, state_bytes=2**40, fingerprint="f" * 200, signature="f" * 64)

    assert len(json.dumps(job.to_wire())) < 1200


def test_a_label_says_for_people_which_job_it_is() -> None:
    assert make_job().label == "train step=7 shard=1"
    assert make_job(attempt=1).label == "train step=7 shard=1 attempt=2"


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1, "1", None])
def test_another_protocol_is_refused_with_both_versions_named(version: object) -> None:
    wire = make_job().to_wire() | {"protocol": version, "field_of_the_future": 1}

    with pytest.raises(ProtocolMismatchError) as caught:
        parse_job(wire)

    assert f"protocol {version!r}" in str(caught.value)
    assert f"this side speaks {PROTOCOL_VERSION}" in str(caught.value)


@pytest.mark.parametrize("wire", [None, [], "job", 7, {}])
def test_an_invalid_message_is_refused(wire: object) -> None:
    with pytest.raises(ProtocolMismatchError, match="protocol None"):
        parse_result(wire)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("unknown", 1),
        ("run", "../other"),
        ("run", "a{b}"),
        ("run", "a\n"),
        ("stream", ""),
        ("split", "s" * 65),
        ("epoch", -1),
        ("step", "7"),
        ("step", 7.0),
        ("shard", True),
        ("attempt", 2**53),
        ("kind", "train"),
        ("n_episodes", 0),
        ("plan", "A" * 64),
        ("state", "b" * 63),
        ("lease_ms", 0),
        ("deadline_s", 0.0),
        ("deadline_s", float("nan")),
        ("deadline_s", float("inf")),
        ("protocol", float(PROTOCOL_VERSION)),
    ],
)
def test_a_spoilt_job_is_refused_naming_field_and_value(field: str, value: object) -> None:
    wire = make_job().to_wire() | {field: value}

    with pytest.raises(ContractError) as caught:
        parse_job(wire)

    assert str(caught.value).startswith(f"InnerLoopJob.{field}={value!r}"[:80])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("losses", [0.5, float("nan")], "losses.1"),
        ("losses", [float("-inf")], "losses.0"),
        ("losses", ["0.5"], "losses.0"),
        ("accuracies", [True], "accuracies.0"),
        ("accuracies", {"0": 1.0}, "accuracies"),
        ("compute_s", float("nan"), "compute_s"),
        ("blob_bytes", -1, "blob_bytes"),
        ("status", "done", "status"),
        ("error", None, "error"),
        ("error", "\ud800", "error"),
        ("is_retryable", 1, "is_retryable"),
    ],
)
def test_a_spoilt_result_is_refused(field: str, value: object, place: str) -> None:
    with pytest.raises(ContractError, match=f"^ShardResult.{place}="):
        parse_result(make_result().to_wire() | {field: value})


@pytest.mark.parametrize("field", sorted(make_job().to_wire().keys() - {"protocol", "signature"}))
def test_a_job_without_one_of_its_fields_is_refused(field: str) -> None:
    wire = make_job().to_wire()
    del wire[field]

    with pytest.raises(ContractError, match=f"InnerLoopJob.{field}="):
        parse_job(wire)


def test_a_huge_wrong_value_does_not_make_a_huge_message() -> None:
    with pytest.raises(ContractError) as caught:
        parse_job(make_job().to_wire() | {"run": "x" * 1_000_000})

    assert len(str(caught.value)) < 300


def test_a_message_cannot_be_changed_after_it_was_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_job().step = 8  # type: ignore[misc]


@given(
    field=st.sampled_from(sorted(make_result().to_wire())),
    value=SCALARS | st.lists(SCALARS, max_size=3),
)
@settings(max_examples=80, deadline=None)
def test_any_value_in_any_field_is_taken_or_refused_but_never_crashes(
    field: str, value: object
) -> None:
    try:
        parsed = parse_result(make_result().to_wire() | {field: value})
    except ContractError:
        return
    assert parse_result(json.loads(parsed.model_dump_json())) == parsed
