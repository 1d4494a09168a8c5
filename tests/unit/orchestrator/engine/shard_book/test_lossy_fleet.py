"""The shard book, with a fleet that loses a third of everything."""

import random
from collections.abc import Iterable

import pytest

from metafleet.orchestrator.engine.shard_book import FleetView, ShardBook
from tests.unit.orchestrator.engine.shard_book.books import view


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
