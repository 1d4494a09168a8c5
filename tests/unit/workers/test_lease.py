"""The lease keeper: renews while the job runs, and stops when it must look dead."""

import logging
import threading
import time
from contextlib import AbstractContextManager

import pytest
import redis

from metafleet.workers.lease import Lease, LeaseKeeper
from tests.fleet import wait_until
from tests.messages import make_job

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


@pytest.fixture
def keeper() -> LeaseKeeper:
    return LeaseKeeper()


def keep(
    keeper: LeaseKeeper,
    ledger: CountingLedger,
    *,
    deadline_s: float = 60.0,
    lease_ms: int = LEASE_MS,
) -> AbstractContextManager[Lease]:
    job = make_job(lease_ms=lease_ms, deadline_s=deadline_s)
    return keeper.keep(ledger, job)  # type: ignore[arg-type]


def renews_no_more(ledger: CountingLedger) -> bool:
    """Wait for what may be under way, then for several beats in which nothing must come."""
    time.sleep(LEASE_MS / 1000)
    renewals = ledger.renewals
    time.sleep(LEASE_MS / 1000)
    return ledger.renewals == renewals


def test_a_lease_is_renewed_while_the_job_runs_and_not_after(keeper: LeaseKeeper) -> None:
    ledger = CountingLedger()

    with keep(keeper, ledger):
        wait_until(lambda: ledger.renewals >= 3, "three renewals", 10)

    assert renews_no_more(ledger)


def test_a_job_shorter_than_a_beat_needs_no_renewal(keeper: LeaseKeeper) -> None:
    ledger = CountingLedger()

    with keep(keeper, ledger, lease_ms=60_000):
        pass

    assert ledger.renewals == 0


def test_one_thread_keeps_the_leases_of_all_jobs(keeper: LeaseKeeper) -> None:
    before = threading.active_count()
    ledgers = [CountingLedger() for _ in range(20)]

    for ledger in ledgers[:-1]:
        with keep(keeper, ledger):
            pass
    with keep(keeper, ledgers[-1]):
        wait_until(lambda: ledgers[-1].renewals >= 2, "renewals of the last", 10)

    assert threading.active_count() == before + 1


def test_a_keeper_that_was_idle_renews_the_next_job(keeper: LeaseKeeper) -> None:
    with keep(keeper, CountingLedger()):
        pass
    time.sleep(2 * LEASE_MS / 1000)
    ledger = CountingLedger()

    with keep(keeper, ledger):
        wait_until(lambda: ledger.renewals >= 2, "renewals", 10)


def test_a_redis_that_is_away_for_a_beat_does_not_end_the_keeping(keeper: LeaseKeeper) -> None:
    ledger = CountingLedger(redis.ConnectionError("away"), redis.TimeoutError("slow"))

    with keep(keeper, ledger):
        wait_until(lambda: ledger.renewals >= 3, "a third renewal", 10)


def test_the_lease_of_an_unwanted_job_is_not_renewed(keeper: LeaseKeeper) -> None:
    ledger = CountingLedger(True, False)

    with keep(keeper, ledger) as lease:
        wait_until(lambda: lease.is_unwanted, "the end of renewing", 10)
        assert renews_no_more(ledger)

    assert ledger.renewals == 2


def test_a_job_past_its_deadline_looks_dead(
    keeper: LeaseKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = CountingLedger()

    with caplog.at_level(logging.ERROR), keep(keeper, ledger, deadline_s=0.06) as lease:
        wait_until(lambda: not lease.is_kept, "the end of renewing", 10)
        assert renews_no_more(ledger)

    assert ledger.renewals <= 3
    assert "passed its deadline of" in caplog.text
    assert "in test_a_job_past_its_deadline_looks_dead" in caplog.text  # where the job hangs


def test_an_error_in_the_job_ends_the_keeping_and_goes_through(keeper: LeaseKeeper) -> None:
    ledger = CountingLedger()

    with pytest.raises(ZeroDivisionError), keep(keeper, ledger):
        raise ZeroDivisionError

    assert renews_no_more(ledger)
