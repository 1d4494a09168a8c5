"""The shard book: what counts as lost, and is sent again."""

from metafleet.orchestrator.engine.shard_book import QUEUE_GRACE_S, FleetView, QueueView
from tests.unit.orchestrator.engine.shard_book.books import sent_book, view


def test_what_waits_in_the_queue_is_not_sent_again() -> None:
    book = sent_book(3)

    assert all(book.review(view(), now_s=now) == [] for now in range(0, 1000, 10))


def test_a_job_that_outlives_the_record_of_its_beginning_is_not_sent_again() -> None:
    book = sent_book(1)
    book.review(view(leased=[(0, 0)], is_queue_empty=True), now_s=0.0)
    # Redis forgets what has begun an hour after the last beginning; the lease goes on
    later = FleetView(set(), {(0, 0)}, set(), {"": QueueView(True, 2)})

    assert all(book.review(later, now_s=now) == [] for now in (3600.0, 3605.0, 3610.0))


def test_what_is_being_computed_is_not_sent_again() -> None:
    book = sent_book(2)
    working = view(leased=[(0, 0), (1, 0)], is_queue_empty=True)

    assert all(book.review(working, now_s=now) == [] for now in range(0, 1000, 10))


def test_a_message_in_no_queue_is_lost_after_a_grace() -> None:
    book = sent_book(2)
    empty = view(leased=[(1, 0)], is_queue_empty=True)

    assert book.review(empty, now_s=10.0) == []
    assert book.review(empty, now_s=10.0 + QUEUE_GRACE_S - 0.01) == []
    assert book.review(empty, now_s=10.0 + QUEUE_GRACE_S) == [0]


def test_a_message_that_a_later_one_overtook_is_lost_though_the_queue_is_not_empty() -> None:
    book = sent_book(3)
    overtaken = view(leased=[(1, 0)])

    assert book.review(overtaken, now_s=0.0) == []
    assert book.review(overtaken, now_s=QUEUE_GRACE_S) == [0]


def test_only_the_latest_attempt_of_a_shard_overtakes() -> None:
    book = sent_book(2)
    assert book.next_attempt(0) == 1
    old_started = view(leased=[(0, 0)])

    assert book.review(old_started, now_s=0.0) == []
    assert book.review(old_started, now_s=100.0) == []


def test_the_grace_restarts_when_the_message_may_be_in_the_queue_after_all() -> None:
    book = sent_book(1)
    empty = view(is_queue_empty=True)

    book.review(empty, now_s=0.0)
    book.review(view(), now_s=1.0)

    assert book.review(empty, now_s=2.0) == []
    assert book.review(empty, now_s=2.0 + QUEUE_GRACE_S) == [0]


def test_without_workers_nothing_counts_as_lost() -> None:
    book = sent_book(2)
    deserted = view(is_queue_empty=True, workers_alive=0)

    assert all(book.review(deserted, now_s=now) == [] for now in range(0, 1000, 10))
    assert book.review(view(is_queue_empty=True), now_s=1000.0) == []
    assert book.review(view(is_queue_empty=True), now_s=1000.0 + QUEUE_GRACE_S) == [0, 1]


def test_a_started_shard_without_a_lease_is_sent_again_at_once() -> None:
    book = sent_book(2)

    assert book.review(view(started=[(0, 0)], leased=[(1, 0)]), now_s=0.0) == [0]


def test_a_lost_worker_counts_once_however_often_it_is_looked_at() -> None:
    book = sent_book(1, max_attempts=2)
    dead = view(started=[(0, 0)])

    assert [book.review(dead, now_s=now) for now in (0.0, 1.0, 2.0)] == [[0], [0], [0]]
    assert book.next_attempt(0) == 1
    assert book.review(dead, now_s=3.0) == []


def test_a_resent_shard_gets_a_grace_of_its_own() -> None:
    book = sent_book(1)
    empty = view(is_queue_empty=True)
    book.review(empty, now_s=0.0)
    assert book.review(empty, now_s=5.0) == [0]

    book.next_attempt(0)

    assert book.review(empty, now_s=5.1) == []
    assert book.review(empty, now_s=5.1 + QUEUE_GRACE_S) == [0]


def test_a_lost_message_never_counts_as_a_failure() -> None:
    book = sent_book(1, max_attempts=1)
    now_s = 0.0
    for _ in range(10):
        book.review(view(is_queue_empty=True), now_s=now_s)
        now_s += QUEUE_GRACE_S
        assert book.review(view(is_queue_empty=True), now_s=now_s) == [0]
        book.next_attempt(0)


def test_a_committed_shard_is_never_sent_again() -> None:
    book = sent_book(2)
    book.mark_failed(1, None, "its result was lost", now_s=0.0)
    committed = view(started=[(0, 0)], committed=[0, 1], is_queue_empty=True)

    assert all(book.review(committed, now_s=now) == [] for now in range(0, 100, 10))
