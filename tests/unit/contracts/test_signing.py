"""Signatures: every field counts, and so does the key."""

import json

import pytest

from metafleet.contracts.job import BlobRef, InnerLoopJob, ShardResult, parse_job, parse_result
from metafleet.contracts.signing import sign, verify
from metafleet.errors import ContractError, SignatureError
from tests.messages import make_job, make_result

KEY = "deployment-key ✓"
OTHER = {str: "other", int: 99, float: 9.5, bool: True, tuple: (9.5,)}
SUMS = (BlobRef(key="sum", n_bytes=9),)


@pytest.mark.parametrize("message", [make_job(), make_result()])
def test_a_signed_message_passes_after_its_way_over_the_wire(
    message: InnerLoopJob | ShardResult,
) -> None:
    parse = parse_job if isinstance(message, InnerLoopJob) else parse_result
    signed = sign(message, KEY)

    verify(parse(json.loads(json.dumps(signed.to_wire()))), KEY)
    verify(parse(json.loads(signed.model_dump_json())), KEY)
    assert KEY not in signed.model_dump_json()


@pytest.mark.parametrize("field", sorted(make_job().to_wire().keys() - {"signature"}))
def test_a_job_with_any_field_tampered_with_is_refused(field: str) -> None:
    signed = sign(make_job(), KEY)
    other = SUMS if field == "inputs" else OTHER[type(getattr(signed, field))]
    assert other != getattr(signed, field)

    with pytest.raises(SignatureError, match="wrong signature"):
        verify(signed.model_copy(update={field: other}), KEY)


@pytest.mark.parametrize("field", sorted(make_result().to_wire().keys() - {"signature"}))
def test_a_result_with_any_field_tampered_with_is_refused(field: str) -> None:
    signed = sign(make_result(), KEY)
    other = OTHER[type(getattr(signed, field))]
    assert other != getattr(signed, field)

    with pytest.raises(SignatureError, match="wrong signature"):
        verify(signed.model_copy(update={field: other}), KEY)


@pytest.mark.parametrize("signature", ["f" * 64, "ä", "\0", "f" * 100_000])
def test_any_text_may_stand_where_the_signature_should(signature: str) -> None:
    with pytest.raises(SignatureError, match="wrong signature"):
        verify(make_result(signature=signature), KEY)


def test_an_unsigned_message_is_refused_naming_the_setting_but_not_the_key() -> None:
    with pytest.raises(SignatureError) as caught:
        verify(make_job(), KEY)

    assert "run=run-1 step=7 is not signed" in str(caught.value)
    assert "METAFLEET_SIGNING_KEY" in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_message_signed_with_another_key_is_refused() -> None:
    with pytest.raises(ContractError, match="wrong signature"):
        verify(sign(make_job(), "another key"), KEY)


def test_without_a_key_nothing_is_signed_and_everything_passes() -> None:
    job = make_job()

    assert sign(job, "") == job
    verify(job, "")
    verify(make_job(signature="whatever"), "")
