"""The shard book: a slow shard gets a second, concurrent attempt."""

from metafleet.orchestrator.engine.shard_book import STRAGGLER_FLOOR_S, ShardBook
from tests.unit.orchestrator.engine.shard_book.books import sent_book, view


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


def test_a_backup_that_could_not_be_sent_is_still_due() -> None:
    book = slow_step()
    running = view(leased=[(8, 0), (9, 0)])

    assert book.review(running, now_s=10.0) == [8]
    assert book.review(running, now_s=11.0) == [8]
    assert book.backups == 0
