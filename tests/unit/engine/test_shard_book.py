"""The shard book: what is sent again, when, and when it is given up."""

import random
from collections.abc import Iterable

import pytest

from metafleet.errors import FleetError, ShardQuarantinedError
from orchestrator.engine.placement import LaneLoad, place
from orchestrator.engine.shard_book import (
    OVERTAKEN_BY_US,
    QUEUE_GRACE_S,
    REFUSAL_PAUSE_S,
    STRAGGLER_FLOOR_S,
    FleetView,
    QueueView,
    ShardBook,
)


def sent_book(n_shards: int, max_attempts: int = 3) -> ShardBook:
    """A book whose shards have all been sent once, in order."""
    book = ShardBook("train step 12", n_shards, max_attempts)
    for shard in range(n_shards):
        assert book.next_attempt(shard) == 0
    return book


def unsent_within(book: ShardBook, window: int) -> list[int]:
    """What is sent where a queue takes so many."""
    load = LaneLoad("", processes=2, on_their_way=book.n_on_their_way(""), room=window, typical_s=1)
    return list(place(book.unsent, [load]))


def view(
    *,
    started: Iterable[tuple[int, int]] = (),
    leased: Iterable[tuple[int, int]] = (),
    committed: Iterable[int] = (),
    is_queue_empty: bool = False,
    workers_alive: int = 2,
    newest_started_us: int = 0,
) -> FleetView:
    return FleetView(
        started=set(started) | set(leased),
        leased=set(leased),
        committed=set(committed),
        queues={"": QueueView(is_queue_empty, workers_alive, newest_started_us)},
    )


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


def test_the_grace_begins_anew_when_the_message_may_be_there_after_all() -> None:
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
        "shard 4 of train step 12 failed 3 times (host:1: no memory; host:2: a bug); mend the "
        "cause, then continue with `metafleet runs resume`"
    )


def test_a_shard_that_kills_its_workers_is_given_up() -> None:
    book = sent_book(1, max_attempts=2)
    assert book.review(view(started=[(0, 0)]), now_s=0.0) == [0]
    book.next_attempt(0)

    with pytest.raises(ShardQuarantinedError, match="its worker died or hung"):
        book.review(view(started=[(0, 1)]), now_s=1.0)


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


def refuse(book: ShardBook, worker: str, *, now_s: float = 0.0) -> None:
    """Have shard 0 refused, by one of two workers."""
    reason = f"{worker}: other arithmetic"
    book.mark_refused(0, None, reason, worker=worker, now_s=now_s, workers_alive=2)


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


def slow_step(*, n_shards: int = 10, n_done: int = 8) -> ShardBook:
    """A step whose first shards took half a second each; the others have just begun."""
    book = sent_book(n_shards)
    for shard in range(n_done):
        book.mark_done(shard, compute_s=0.5)
    slow = [(shard, 0) for shard in range(n_done, n_shards)]
    assert book.review(view(leased=slow), now_s=0.0) == []
    return book


def test_the_slowest_shard_gets_a_backup_within_the_budget() -> None:
    book = slow_step()
    running = view(leased=[(8, 0), (9, 0)])

    assert book.review(running, now_s=STRAGGLER_FLOOR_S) == []
    assert book.review(running, now_s=STRAGGLER_FLOOR_S + 0.1) == [8]
    assert book.next_attempt(8) == 1
    assert book.review(running, now_s=100.0) == []
    assert book.backups == 1


def test_a_shard_is_slow_when_it_takes_twice_the_median() -> None:
    book = sent_book(5)
    for shard, compute_s in enumerate((1.0, 3.0, 3.0, 9.0)):
        book.mark_done(shard, compute_s=compute_s)
    running = view(leased=[(4, 0)])

    assert book.review(running, now_s=0.0) == []
    assert book.review(running, now_s=2 * 3.0 - 0.1) == []
    assert book.review(running, now_s=2 * 3.0 + 0.1) == [4]


def test_before_most_are_in_nothing_is_slow() -> None:
    book = slow_step(n_done=7)

    assert book.review(view(leased=[(7, 0), (8, 0), (9, 0)]), now_s=1000.0) == []


def test_a_shard_with_a_backup_is_sent_again_only_when_both_attempts_are_lost() -> None:
    book = slow_step()
    assert book.review(view(leased=[(8, 0), (9, 0)]), now_s=10.0) == [8]
    book.next_attempt(8)

    one_left = view(started=[(8, 0), (8, 1)], leased=[(8, 1), (9, 0)])
    assert book.review(one_left, now_s=20.0) == []
    none_left = view(started=[(8, 0), (8, 1)], leased=[(9, 0)])
    assert book.review(none_left, now_s=21.0) == [8]


def test_what_lacked_its_parameters_is_sent_again_and_is_no_failure() -> None:
    book = sent_book(2, max_attempts=1)

    book.mark_unsent(0, now_s=5.0)

    assert book.review(view(leased=[(1, 0)]), now_s=5.0) == [0]


class LossyFleet:
    """Two workers and a queue that lose, repeat and drop things at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.queue: list[tuple[int, int]] = []
        self.started: set[tuple[int, int]] = set()
        self.leased: set[tuple[int, int]] = set()
        self.committed: set[int] = set()
        self.commits: list[int] = []

    def send(self, attempts: Iterable[tuple[int, int]]) -> None:
        for attempt in attempts:
            self.queue += [attempt] * self.random.choice([0, 1, 1, 1, 2])  # lost, fine, doubled

    def work(self) -> None:
        for running in sorted(self.leased):
            if self.random.random() < 0.4:
                self.leased.remove(running)
                if self.random.random() < 0.7 and running[0] not in self.committed:  # or it died
                    self.committed.add(running[0])
                    self.commits.append(running[0])
        while self.queue and len(self.leased) < 2:
            attempt = self.queue.pop(0)
            if attempt not in self.started and attempt[0] not in self.committed:
                self.started.add(attempt)
                self.leased.add(attempt)

    def view(self) -> FleetView:
        return view(
            started=self.started,
            leased=self.leased,
            committed=self.committed,
            is_queue_empty=not self.queue,
        )


@pytest.mark.parametrize("seed", range(20))
def test_a_fleet_that_loses_a_third_of_everything_still_does_every_shard_once(seed: int) -> None:
    fleet = LossyFleet(seed)
    book = ShardBook("train step 1", 8, max_attempts=50)
    fleet.send((shard, book.next_attempt(shard)) for shard in range(8))

    now_s = 0.0
    while not book.is_complete:
        fleet.work()
        for shard in sorted(fleet.committed):
            if fleet.random.random() < 0.8:  # some results come later than Redis shows them
                book.mark_done(shard)
        due = book.review(fleet.view(), now_s=now_s)
        assert not set(due) & fleet.committed
        fleet.send((shard, book.next_attempt(shard)) for shard in due)
        now_s += 0.5
        assert now_s < 500

    assert sorted(fleet.commits) == list(range(8))


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
        assert len(book.sent_shards()) == min(4, 64 - n_done)
        if not book.is_complete:
            book.mark_done(rng.choice(book.sent_shards()))

    assert sent == list(range(64))
    assert book.is_complete and book.retries == 0


def test_a_shard_sent_again_stays_in_the_window() -> None:
    book = ShardBook("train step 12", 8, 3)
    for shard in unsent_within(book, 4):
        book.next_attempt(shard)

    book.mark_failed(1, 0, "its worker died", now_s=0.0)
    book.mark_unsent(2, now_s=0.0)

    assert unsent_within(book, 4) == []
    assert book.sent_shards() == [0, 1, 2, 3]
    assert book.review(view(leased=[(0, 0), (3, 0)]), now_s=0.0) == [1, 2]
    assert unsent_within(book, 6) == [4, 5]


def test_a_window_that_shrinks_takes_nothing_back() -> None:
    book = ShardBook("train step 12", 8, 3)
    for shard in unsent_within(book, 6):
        book.next_attempt(shard)

    assert unsent_within(book, 2) == []
    assert len(book.sent_shards()) == 6


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


def test_what_waits_for_a_class_that_has_left_goes_to_another() -> None:
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
