"""Times are computed from the moment of sending and from durations."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from metafleet.db.records import AttemptRecord
from metafleet.orchestrator.records.job_times import JobTimes
from tests.databases import make_jobs

SENT = datetime(2026, 9, 21, 14, 13, 20, 123459, tzinfo=UTC)


def test_the_times_of_a_job_follow_one_another() -> None:
    job = make_jobs(1)[3]  # 0.03 s of waiting, 3.1 s of computing, 3.26 s in all

    times = JobTimes.of(job)

    assert times.sent_at == SENT
    assert times.started_at == SENT + timedelta(seconds=0.03)
    assert times.ended_at == SENT + timedelta(seconds=3.13)
    assert times.counted_at == SENT + timedelta(seconds=3.26)


def test_times_of_earlier_rows_are_unknown() -> None:
    assert JobTimes.of(replace(make_jobs(1)[0], sent_us=None)) == JobTimes()


def test_a_lost_attempt_has_no_known_start() -> None:
    lost = AttemptRecord(
        stream="train",
        step=1,
        epoch=1,
        shard=0,
        attempt=1,
        outcome="lost",
        sent_us=1_790_000_000_123_459,
        round_trip_s=4.5,
    )

    assert JobTimes.of(lost) == JobTimes(sent_at=SENT, counted_at=SENT + timedelta(seconds=4.5))
