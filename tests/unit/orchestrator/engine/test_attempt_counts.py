"""The attempt_counts: every attempt is counted, not every one gets a row."""

import math
from collections.abc import Sequence

import pytest

from metafleet.contracts.attempt_outcomes import AttemptOutcome
from metafleet.contracts.discarded_attempts import DiscardedAttempt
from metafleet.db.records import AttemptCountRecord, AttemptRecord
from metafleet.orchestrator.engine import attempt_counts as module
from metafleet.orchestrator.engine.attempt_counts import (
    MOST_OF_A_STEP,
    AttemptCounts,
    StepAttemptCounts,
)


class Sink:
    def __init__(self) -> None:
        self.rows: list[AttemptRecord] = []
        self.counts: dict[tuple[int, str, str, str], int] = {}
        self.n_calls = 0

    def __call__(
        self, attempts: Sequence[AttemptRecord], counts: Sequence[AttemptCountRecord]
    ) -> None:
        self.n_calls += 1
        self.rows += attempts
        self.counts.update({(c.epoch, c.stream, c.outcome, c.reason): c.n for c in counts})


@pytest.fixture
def sink() -> Sink:
    return Sink()


def lose(step: StepAttemptCounts, n: int) -> None:
    for shard in range(n):
        step.drop(AttemptOutcome.LOST, "worker", shard=shard, attempt=0)


def test_counters_grow_over_steps_and_are_reported_when_they_changed(sink: Sink) -> None:
    attempt_counts = AttemptCounts(sink)
    for number in (1, 2):
        step = StepAttemptCounts(attempt_counts, "train", number)
        step.epoch = 3
        step.count(AttemptOutcome.SENT, "first")
        step.count(AttemptOutcome.COUNTED)
        attempt_counts.flush()
    attempt_counts.flush()

    assert sink.n_calls == 2
    assert sink.counts == {(3, "train", "sent", "first"): 2, (3, "train", "counted", ""): 2}


def test_attempts_are_numbered_from_one_and_kept_with_what_is_known(sink: Sink) -> None:
    attempt_counts = AttemptCounts(sink)
    step = StepAttemptCounts(attempt_counts, "train", 9)
    step.epoch = 2
    lose(step, 1)
    attempt_counts.flush()

    (row,) = sink.rows
    assert (row.stream, row.step, row.epoch, row.shard, row.attempt) == ("train", 9, 2, 0, 1)
    assert (row.outcome, row.reason, row.worker) == ("lost", "worker", "")
    assert math.isnan(row.compute_s) and row.created_at.tzinfo is not None
    assert step.dropped == 1


def test_a_poisoned_run_is_counted_whole_but_writes_few_rows(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OF_A_RUN", 250)
    attempt_counts = AttemptCounts(sink)
    for number in range(1, 6):
        lose(StepAttemptCounts(attempt_counts, "train", number), 1000)
        attempt_counts.flush()

    assert sink.counts == {(0, "train", "lost", "worker"): 5000}
    by_step = [sum(row.step == number for row in sink.rows) for number in range(1, 6)]
    assert by_step == [MOST_OF_A_STEP, MOST_OF_A_STEP, 50, 0, 0]


def test_what_workers_dropped_belongs_to_its_own_step_and_epoch(sink: Sink) -> None:
    attempt_counts = AttemptCounts(sink)
    named = DiscardedAttempt("train", "late", "closed", 1, 7, 3, 0, "host:5")
    attempt_counts.note_discarded(
        [named, DiscardedAttempt("train", "unneeded", "done", n=40)], epoch=2
    )
    attempt_counts.flush()

    assert sink.counts == {
        (1, "train", "late", "closed"): 1,
        (2, "train", "unneeded", "done"): 40,
    }
    (row,) = sink.rows
    assert (row.step, row.epoch, row.shard, row.attempt, row.worker) == (7, 1, 3, 1, "host:5")


def test_attempts_of_an_open_step_are_shown_before_its_counters(sink: Sink) -> None:
    attempt_counts = AttemptCounts(sink)
    step = StepAttemptCounts(attempt_counts, "train", 1)
    lose(step, 3)

    attempt_counts.show()
    attempt_counts.show()

    assert [row.shard for row in sink.rows] == [0, 1, 2]
    assert (sink.n_calls, sink.counts) == (1, {})
    assert attempt_counts.expects_logs
    lose(step, MOST_OF_A_STEP)
    attempt_counts.flush()
    assert len(sink.rows) == MOST_OF_A_STEP
    assert sum(sink.counts.values()) == MOST_OF_A_STEP + 3
    assert not attempt_counts.expects_logs
