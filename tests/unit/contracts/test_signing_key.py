"""Who has which signing key, told without the key."""

from dataclasses import replace

import pytest

from metafleet.contracts.job import PROTOCOL_VERSION
from metafleet.contracts.presence import WorkerInfo
from metafleet.contracts.signing_key import key_id
from metafleet.orchestrator.engine.incompatible_workers import IncompatibleWorkers, find_mismatch

KEY = "a-secret-key"


def worker(name: str = "cpu0@host") -> WorkerInfo:
    return WorkerInfo(
        name=name,
        host="host",
        pid=42,
        device="cpu",
        queues=("inner.cpu",),
        protocol=PROTOCOL_VERSION,
        version="0.1.0",
        fingerprint="{}",
    )


@pytest.mark.parametrize("key", [KEY, ""], ids=["with", "without"])
def test_a_worker_with_the_orchestrators_key_is_no_stranger(key: str) -> None:
    proven = worker().with_proof(key)

    assert proven.holds_key(key)
    assert find_mismatch(proven, key) == ""


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        ("other", KEY, "has another signing key than this orchestrator"),
        ("", KEY, "has no signing key and this orchestrator has one"),
        (KEY, "", "has a signing key and this orchestrator has none"),
    ],
    ids=["another", "none", "the orchestrator has none"],
)
def test_a_worker_with_another_key_is_reported_with_the_setting_and_without_the_key(
    theirs: str, ours: str, said: str
) -> None:
    told: list[str] = []
    strangers, found = IncompatibleWorkers(told.append), worker().with_proof(theirs)

    for _ in range(2):
        strangers.tell_of([(found, find_mismatch(found, ours))])

    (text,) = told
    assert text.startswith(f"worker cpu0@host {said}: it gets no jobs; ")
    assert "METAFLEET_SIGNING_KEY" in text
    assert KEY not in text


def test_a_proof_is_of_one_process_and_shows_nothing_of_the_key() -> None:
    proven = worker().with_proof(KEY)

    for other in (replace(proven, name="cpu1@host"), replace(proven, pid=43)):
        assert not other.holds_key(KEY)
    assert KEY not in proven.key_proof
    assert KEY not in key_id(KEY)
    assert key_id(KEY) != key_id("other") != key_id("") == "unsigned"


def test_a_proof_that_is_no_ascii_is_no_proof() -> None:
    assert not replace(worker(), key_proof="é").holds_key(KEY)
