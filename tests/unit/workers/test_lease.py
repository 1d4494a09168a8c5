"""The lease keeper: renews while the job runs, and stops when it must look dead."""

import logging
import threading

import pytest
import redis

from tests.fleet import wait_until
from tests.messages import make_job
from workers.lease import LeaseKeeper

LEASE_MS = 100


class CountingLedger:
    """A ledger whose renewals are counted and answered as the test says."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.renewals = 0

    def renew(self) -> bool:
        self.renewals += 1
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


def keeper(ledger: CountingLedger, deadline_s: float = 60.0) -> LeaseKeeper:
    job = make_job(lease_ms=LEASE_MS, deadline_s=deadline_s)
    return LeaseKeeper(ledger, job)  # type: ignore[arg-type]


def lease_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lease"]


def test_a_lease_is_renewed_while_the_job_runs_and_not_after() -> None:
    ledger = CountingLedger()

    with keeper(ledger):
        wait_until(lambda: ledger.renewals >= 3, "three renewals", 10)
    renewals = ledger.renewals

    assert lease_threads() == []
    assert ledger.renewals == renewals


def test_a_job_shorter_than_a_beat_needs_no_renewal() -> None:
    ledger = CountingLedger()

    with LeaseKeeper(ledger, make_job(lease_ms=60_000)):  # type: ignore[arg-type]
        assert len(lease_threads()) == 1

    assert ledger.renewals == 0
    assert lease_threads() == []


def test_a_redis_that_is_away_for_a_beat_does_not_end_the_keeping() -> None:
    ledger = CountingLedger(redis.ConnectionError("away"), redis.TimeoutError("slow"))

    with keeper(ledger):
        wait_until(lambda: ledger.renewals >= 3, "a third renewal", 10)


def test_a_job_that_nobody_waits_for_is_not_renewed_any_more() -> None:
    ledger = CountingLedger(True, False)

    with keeper(ledger):
        wait_until(lambda: lease_threads() == [], "the end of renewing", 10)

    assert ledger.renewals == 2


def test_a_job_past_its_deadline_looks_dead(caplog: pytest.LogCaptureFixture) -> None:
    ledger = CountingLedger()

    with caplog.at_level(logging.ERROR), keeper(ledger, deadline_s=0.06):
        wait_until(lambda: lease_threads() == [], "the end of renewing", 10)

    assert ledger.renewals <= 3
    assert "run=run-1 train step=7 shard=2/4 attempt=0 passed its deadline" in caplog.text


def test_an_error_in_the_job_ends_the_keeping_and_goes_through() -> None:
    with pytest.raises(ZeroDivisionError), keeper(CountingLedger()):
        raise ZeroDivisionError

    assert lease_threads() == []
