"""Attempts discarded by a worker are reported to the orchestrator once."""

import math
import time
from dataclasses import replace

from metafleet.contracts.attempt_logs import MOST_LOGS, AttemptLog
from metafleet.contracts.discarded_attempts import MOST_DISCARDED, DiscardedAttempt
from metafleet.contracts.ledger import STEP_TTL_MS
from tests.integration.contracts.ledger.desk import LEASE_MS, Desk


def test_a_late_result_is_reported_at_the_next_close(desk: Desk) -> None:
    worker = desk.worker("host:42/nonce")
    worker.start()
    assert desk.owner.close_step(1, "train", 7) == ("ok", ())

    assert [worker.commit("late") for _ in range(2)] == ["closed", "closed"]

    status, dropped = desk.owner.close_step(1, "train", 8)
    (found,) = dropped
    expected = DiscardedAttempt("train", "late", "closed", 1, 7, 1, 0, "host:42")
    assert status == "ok"
    assert replace(found, sent_us=None, queue_wait_s=math.nan, compute_s=math.nan) == expected
    assert desk.owner.take_discarded(1) == ()


def test_what_is_not_started_and_what_is_stopped_is_reported(desk: Desk) -> None:
    first, second = desk.worker("a:1/x"), desk.worker("b:2/y")
    first.start()
    assert second.start()[0] == "taken"
    first.commit("result")
    assert desk.worker("c:3/z", attempt=1).start()[0] == "done"
    assert desk.worker("d:4/z", epoch=0).start()[0] == "stale"
    first.note_stopped()

    found = {(d.outcome, d.reason, d.worker) for d in desk.owner.take_discarded(1)}

    assert found == {
        ("unneeded", "taken", "b:2"),
        ("unneeded", "done", "c:3"),
        ("unneeded", "stale", "d:4"),
        ("cancelled", "unwanted", "a:1"),
    }


def test_notes_say_when_attempts_were_sent_begun_and_ended(desk: Desk) -> None:
    seconds, microseconds = desk.client.time()
    sent_us = seconds * 1_000_000 + microseconds - 2_500_000
    slow, refused = (desk.worker(f"{name}/x", sent_us=sent_us) for name in ("a:1", "b:2"))
    slow.start()
    time.sleep(0.05)
    slow.note_stopped()
    refused.start()

    cancelled, unneeded = sorted(desk.owner.take_discarded(1), key=lambda note: note.worker)

    assert (cancelled.worker, cancelled.sent_us) == ("a:1", sent_us)
    assert 2.5 <= cancelled.queue_wait_s < 10 and 0.05 <= cancelled.compute_s < 10
    assert (unneeded.worker, unneeded.sent_us) == ("b:2", sent_us)
    assert unneeded.queue_wait_s >= 2.55 and math.isnan(unneeded.compute_s)


def test_notes_of_earlier_workers_have_no_times(desk: Desk) -> None:
    desk.client.hset(desk.run.discarded, "train:1:7:2:0:late:closed", "host:1")

    (note,) = desk.owner.take_discarded(1)

    assert (note.worker, note.sent_us) == ("host:1", None)
    assert math.isnan(note.queue_wait_s) and math.isnan(note.compute_s)


def test_only_the_owner_takes_discarded_notes(desk: Desk) -> None:
    desk.worker(epoch=0).start()
    desk.owner.take_over(2, lease_ms=LEASE_MS)

    assert desk.owner.take_discarded(1) == ()
    assert desk.owner.close_step(1, "train", 7) == ("fenced", ())

    assert len(desk.owner.take_discarded(2)) == 1


def test_a_flood_is_counted_and_not_kept(desk: Desk) -> None:
    worker = desk.worker()
    desk.owner.close_step(1, "train", 7)
    for shard in range(MOST_DISCARDED):
        desk.client.hset(desk.run.discarded, f"train:1:7:{shard + 2}:0:late:closed", "host:1")

    for attempt in range(3):
        assert desk.worker(attempt=attempt).start()[0] == "closed"
    assert worker.commit("late") == "closed"

    assert desk.client.hlen(desk.run.discarded) == MOST_DISCARDED + 2
    assert 0 < desk.client.pttl(desk.run.discarded) <= STEP_TTL_MS
    several = {d for d in desk.owner.take_discarded(1) if d.step is None}
    assert several == {
        DiscardedAttempt("train", "unneeded", "closed", n=3),
        DiscardedAttempt("train", "late", "closed", n=1),
    }


def test_the_owner_takes_the_log_lines_of_attempts_once(desk: Desk) -> None:
    desk.worker("host:42/nonce").keep_log("first")
    desk.worker("host:42/nonce").keep_log("first\nsecond")  # in place of it
    desk.worker("host:43/nonce", shard=2).keep_log("dropped")
    desk.worker("host:43/nonce", shard=2).drop_log()

    assert desk.owner.take_logs(2) == ()  # of another epoch
    expected = AttemptLog("train", 1, 7, 1, 0, "host:42", "first\nsecond")
    assert desk.owner.take_logs(1) == (expected,)
    assert desk.owner.take_logs(1) == ()


def test_a_flood_of_logs_stays_within_its_limit(desk: Desk) -> None:
    full = {f"train:1:7:{shard + 2}:0": b"x" for shard in range(MOST_LOGS)}
    desk.client.hset(desk.run.logs, mapping=full)  # type: ignore[arg-type]

    desk.worker().keep_log("one too many")

    assert desk.client.hlen(desk.run.logs) == MOST_LOGS
    assert 0 < desk.client.pttl(desk.run.logs) <= STEP_TTL_MS
