"""The shard book: windows, and shards that change queues."""

import random

from metafleet.orchestrator.engine.shard_book import (
    OVERTAKEN_BY_US,
    QUEUE_GRACE_S,
    FleetView,
    QueueView,
    ShardBook,
)
from tests.unit.orchestrator.engine.shard_book.books import unsent_within, view


def sent_shards(book: ShardBook) -> list[int]:
    return [shard for shard in book.open_shards if shard not in book.unsent]


def test_a_window_is_filled_and_refilled_as_shards_are_done() -> None:
    book = ShardBook("train step 12", 64, 3)
    sent: list[int] = []
    rng = random.Random(7)
    for n_done in range(65):
        fresh = unsent_within(book, 4)
        assert unsent_within(book, 4) == fresh  # asking changes nothing
        for shard in fresh:
            assert book.next_attempt(shard) == 0
        sent += fresh
        assert len(sent_shards(book)) == min(4, 64 - n_done)
        if not book.is_complete:
            book.mark_done(rng.choice(sent_shards(book)))

    assert sent == list(range(64))
    assert book.is_complete and book.retries == 0


def test_a_shard_sent_again_stays_in_the_window() -> None:
    book = ShardBook("train step 12", 8, 3)
    for shard in unsent_within(book, 4):
        book.next_attempt(shard)

    book.mark_failed(1, 0, "its worker died", now_s=0.0)
    book.mark_unsent(2, now_s=0.0)

    assert unsent_within(book, 4) == []
    assert sent_shards(book) == [0, 1, 2, 3]
    assert book.review(view(leased=[(0, 0), (3, 0)]), now_s=0.0) == [1, 2]
    assert unsent_within(book, 6) == [4, 5]


def test_a_window_that_shrinks_takes_nothing_back() -> None:
    book = ShardBook("train step 12", 8, 3)
    for shard in unsent_within(book, 6):
        book.next_attempt(shard)

    assert unsent_within(book, 2) == []
    assert len(sent_shards(book)) == 6


def test_a_shard_sent_to_another_queue_is_on_its_way_there_alone() -> None:
    book = ShardBook("train step 12", 2, 3)
    book.next_attempt(0, queue="gpu")
    book.next_attempt(1, queue="gpu")
    assert (book.n_on_their_way("gpu"), book.n_on_their_way("cpu")) == (2, 0)

    book.mark_failed(1, 0, "its worker died", now_s=0.0)
    book.next_attempt(1, queue="cpu")
    assert (book.n_on_their_way("gpu"), book.n_on_their_way("cpu")) == (1, 1)
    assert book.last_queue(1) == "cpu"

    book.mark_done(0)
    book.mark_done(1)
    book.next_attempt(1, queue="gpu")  # too late: it is done
    assert (book.n_on_their_way("gpu"), book.n_on_their_way("cpu")) == (0, 0)


def test_jobs_of_a_class_that_has_left_go_to_another() -> None:
    book = ShardBook("train step 12", 2, 3)
    book.next_attempt(0, queue="gpu")
    book.next_attempt(1, queue="cpu")

    def seen(gpu_workers: int, cpu_workers: int) -> FleetView:
        queues = {"gpu": QueueView(False, gpu_workers), "cpu": QueueView(False, cpu_workers)}
        return FleetView(started=set(), leased=set(), committed=set(), queues=queues)

    for now_s in (0.0, 100.0):
        assert book.review(seen(1, 1), now_s=now_s) == []
        assert book.review(seen(0, 0), now_s=now_s) == []  # it can wait there as well as anywhere
    assert book.review(seen(0, 1), now_s=200.0) == []
    assert book.review(seen(0, 1), now_s=200.0 + QUEUE_GRACE_S) == [0]


def test_a_message_that_one_of_another_run_overtook_is_lost() -> None:
    book = ShardBook("train step 12", 1, 3)
    sent_us = 1_000_000_000
    book.next_attempt(0, sent_us=sent_us)
    just_later = view(newest_started_us=sent_us + OVERTAKEN_BY_US)
    much_later = view(newest_started_us=sent_us + OVERTAKEN_BY_US + 1)

    assert [book.review(just_later, now_s=now) for now in (0.0, 100.0)] == [[], []]
    assert book.review(much_later, now_s=200.0) == []
    assert book.review(much_later, now_s=200.0 + QUEUE_GRACE_S) == [0]


def test_what_is_being_computed_cannot_be_overtaken() -> None:
    book = ShardBook("train step 12", 1, 3)
    book.next_attempt(0, sent_us=1)
    working = view(leased=[(0, 0)], newest_started_us=10**15)

    assert all(book.review(working, now_s=now) == [] for now in range(0, 1000, 10))


def test_what_is_unsent_again_leaves_room_for_itself_and_keeps_its_failures() -> None:
    book = ShardBook("train step 12", 4, 3)
    for shard in unsent_within(book, 3):
        book.next_attempt(shard, queue="cpu")
    book.mark_done(0)
    book.mark_failed(1, 0, "its worker died", now_s=0.0)

    book.unsend_all()

    assert (book.unsent, book.n_on_their_way("cpu"), book.live_attempts()) == ([1, 2, 3], 0, [])
    assert book.next_attempt(1, queue="gpu") == 1
    assert (book.n_on_their_way("cpu"), book.n_on_their_way("gpu")) == (0, 1)
    assert book.review(view(leased=[(1, 1)]), now_s=0.0) == []
