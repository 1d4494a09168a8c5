"""The shard book: what failed or was refused, and when a shard is given up."""

import pytest

from metafleet.contracts.attempt_outcomes import AttemptReason
from metafleet.contracts.job import ShardResult
from metafleet.errors import FleetError, ShardQuarantinedError
from metafleet.orchestrator.engine.shard_book import REFUSAL_PAUSE_S, ShardBook
from tests.unit.orchestrator.engine.shard_book.books import sent_book, view


def test_a_failed_shard_is_sent_again_at_once() -> None:
    book = sent_book(2)

    book.mark_failed(1, None, "no memory", now_s=4.0)

    assert book.review(view(started=[(1, 0)]), now_s=4.0) == [1]


def test_a_shard_that_failed_too_often_is_given_up_with_every_reason() -> None:
    book = sent_book(5, max_attempts=3)
    book.mark_failed(4, None, "host:1: no memory", now_s=0.0)
    book.mark_failed(4, None, "host:1: no memory", now_s=1.0)

    with pytest.raises(ShardQuarantinedError) as caught:
        book.mark_failed(4, None, "host:2: a bug", now_s=2.0)

    assert str(caught.value) == (
        "shard 4 of train step 12 failed 3 times (host:1: no memory; host:2: a bug); fix the "
        "cause, then continue with `metafleet runs resume`"
    )


def test_a_shard_that_kills_its_workers_is_given_up() -> None:
    book = sent_book(1, max_attempts=2)
    assert book.review(view(started=[(0, 0)]), now_s=0.0) == [0]
    book.next_attempt(0)

    with pytest.raises(ShardQuarantinedError, match="its worker died or hung"):
        book.review(view(started=[(0, 1)]), now_s=1.0)


@pytest.mark.parametrize(
    ("last_seen_s", "what"), [(99.0, "it hung"), (20.0, "its worker died or hung")]
)
def test_a_job_is_said_to_have_hung_only_if_it_was_seen_to_the_end(
    last_seen_s: float, what: str
) -> None:
    book = ShardBook("train step 12", 1, 1, job_deadline_s=100.0)
    book.next_attempt(0)
    for now_s in (0.0, last_seen_s):
        book.review(view(leased=[(0, 0)]), now_s=now_s)

    with pytest.raises(ShardQuarantinedError, match=what):
        book.review(view(), now_s=101.0)


def test_failures_of_one_shard_do_not_count_for_another() -> None:
    book = sent_book(2, max_attempts=2)

    book.mark_failed(0, None, "a", now_s=0.0)
    book.mark_failed(1, None, "b", now_s=0.0)

    assert book.review(view(), now_s=0.0) == [0, 1]


def test_a_refused_shard_is_offered_again_after_a_pause() -> None:
    book = sent_book(1)

    refuse(book, "host:1", now_s=1.0)

    begun = view(started=[(0, 0)])
    assert book.review(begun, now_s=1.0) == []
    assert book.review(begun, now_s=1.0 + REFUSAL_PAUSE_S) == [0]


def refuse(
    book: ShardBook, worker: str, *, now_s: float = 0.0, reason: str = AttemptReason.FINGERPRINT
) -> None:
    """Have shard 0 refused, by one of two processes."""
    refused = ShardResult(
        run="r",
        epoch=1,
        stream="train",
        step=12,
        shard=0,
        attempt=0,
        status="refused",
        worker=worker,
        device="cpu",
        fingerprint="",
        error=f"{worker}: other arithmetic",
        reason=reason,
    )
    book.mark_refused(refused, now_s=now_s, processes_alive=2)


def test_refusals_are_no_failures_but_end_when_every_worker_must_have_refused() -> None:
    book = sent_book(1, max_attempts=1)
    for turn in range(3 + 2 * 2):
        refuse(book, f"host:{turn % 2}")

    with pytest.raises(FleetError, match="refused 8 times; host:1: other arithmetic") as caught:
        refuse(book, "host:1")

    assert not isinstance(caught.value, ShardQuarantinedError)


def test_one_worker_that_refuses_again_and_again_ends_nothing() -> None:
    book = sent_book(1, max_attempts=1)

    for _ in range(20):
        refuse(book, "host:1")

    assert book.review(view(), now_s=REFUSAL_PAUSE_S) == [0]


def test_one_refusal_of_each_worker_for_its_settings_is_enough() -> None:
    book = sent_book(1)
    for _ in range(3):
        refuse(book, "host:0", reason=AttemptReason.CONFIG)

    with pytest.raises(FleetError, match="refused 4 times; host:1: other"):
        refuse(book, "host:1", reason=AttemptReason.CONFIG)


def test_a_shard_counts_once() -> None:
    book = sent_book(3)

    book.mark_done(1)
    book.mark_done(1)

    assert (book.open_shards, book.live_attempts()) == ([0, 2], [(0, 0), (2, 0)])
    assert (book.is_done(1), book.is_complete) == (True, False)
    book.mark_done(0)
    book.mark_done(2)
    assert book.is_complete
    assert book.review(view(is_queue_empty=True), now_s=1e9) == []


def test_retries_are_the_attempts_beyond_the_first() -> None:
    book = ShardBook("train step 1", 3, 3)
    assert book.retries == 0
    for shard in (0, 1, 1, 1, 2):
        book.next_attempt(shard)

    assert book.retries == 2


def test_shards_that_are_not_of_this_step_are_overlooked() -> None:
    book = sent_book(1)

    assert book.review(view(leased=[(7, 0)], committed=[9]), now_s=0.0) == []


def test_an_attempt_without_parameters_is_sent_again_and_is_no_failure() -> None:
    book = sent_book(2, max_attempts=1)

    book.mark_unsent(0, now_s=5.0)

    assert book.review(view(leased=[(1, 0)]), now_s=5.0) == [0]
