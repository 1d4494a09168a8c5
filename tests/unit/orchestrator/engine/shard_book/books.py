"""Shard books, and what a fleet shows of itself."""

from collections.abc import Iterable

from metafleet.orchestrator.engine.placement import QueueLoad, place
from metafleet.orchestrator.engine.shard_book import FleetView, QueueView, ShardBook


def sent_book(n_shards: int, max_attempts: int = 3) -> ShardBook:
    """A book whose shards have all been sent once, in order."""
    book = ShardBook("train step 12", n_shards, max_attempts)
    for shard in range(n_shards):
        assert book.next_attempt(shard) == 0
    return book


def unsent_within(book: ShardBook, window: int) -> list[int]:
    """What is sent where a queue takes so many."""
    load = QueueLoad(
        "", processes=2, on_their_way=book.n_on_their_way(""), room=window, typical_s=1
    )
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
