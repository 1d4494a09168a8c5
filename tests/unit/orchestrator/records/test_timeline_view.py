from dataclasses import replace

import numpy as np
import pytest

from metafleet.orchestrator.records.timeline import Kind, Spans, Timeline
from metafleet.orchestrator.records.timeline_steps import Steps
from metafleet.orchestrator.records.timeline_view import MOST_SPANS, TimelineView

S = 1_000_000
ORIGIN = 1_790_000_000 * S


def spans(*rows: tuple[int, ...]) -> Spans:
    """Return spans of rows: step, shard, worker, kind, and sent, start, end, counted in seconds."""
    if not rows:
        return Spans(*(np.empty(0, dtype=np.int64) for _ in range(10)))
    step, shard, worker, kind, *times = np.array(rows, dtype=np.int64).T
    zeros = np.zeros_like(step)
    moments = (ORIGIN + each * S for each in times)
    return Spans(zeros, step, shard, zeros + 1, worker, kind, *moments)


def view(jobs: Spans, others: Spans | None = None) -> TimelineView:
    return TimelineView(
        Timeline(
            streams=("train",),
            workers=("host:10", "host:9"),
            devices={"host:10": "cpu", "host:9": "cpu"},
            jobs=jobs,
            others=spans() if others is None else others,
            n_untimed=0,
        )
    )


TWO_STEPS = spans(
    (1, 0, 0, Kind.COUNTED, 0, 1, 3, 3),
    (1, 1, 1, Kind.COUNTED, 0, 1, 5, 6),
    (2, 0, 0, Kind.COUNTED, 6, 6, 9, 10),
    (2, 1, 1, Kind.REPEATED, 6, 7, 8, 9),
)


def test_the_straggler_is_the_job_that_counts_last() -> None:
    steps = Steps.of(TWO_STEPS)
    assert steps.step.tolist() == [1, 2]
    assert steps.last.tolist() == [1, 2]
    assert ((steps.end - steps.begin) // S).tolist() == [6, 4]
    assert ((steps.end - steps.median) // S).tolist() == [3, 1]


def test_lanes_are_in_the_order_of_host_and_pid_with_their_figures() -> None:
    found = view(TWO_STEPS).within(0, 10 * S)
    assert [lane["worker"] for lane in found["lanes"]] == ["host:9", "host:10"]
    nine, ten = found["lanes"]
    assert (nine["busy"], ten["busy"]) == (0.5, 0.5)
    assert (nine["counted"], nine["repeated"], nine["set_time"]) == (2, 1, 1)
    assert nine["wait_s"] == 1.0
    assert found["steps"]["slowest"][0]["worker"] == "host:9"


def test_only_what_is_in_the_range_is_told() -> None:
    found = view(TWO_STEPS).within(7 * S, 10 * S)
    assert [(span[7], span[8]) for span in found["spans"]] == [(2, 0), (2, 1)]
    assert found["lanes"][1]["busy"] == pytest.approx(2 / 3, abs=1e-4)


def test_a_step_is_found_with_a_margin() -> None:
    whole = view(TWO_STEPS)
    found = whole.of_step("train", 2)
    assert found is not None
    assert found[0] < 6 * S < 10 * S < found[1]
    assert whole.of_step("train", 3) is None
    assert whole.of_step("validate", 1) is None


def test_discarded_work_is_a_span_of_its_own() -> None:
    late = spans((1, 0, 1, Kind.IN_VAIN, 0, 6, 8, 8))
    found = view(TWO_STEPS, late).within(0, 10 * S)
    assert found["lanes"][0]["in_vain"] == 1
    assert [span[1] for span in found["spans"]].count(Kind.IN_VAIN) == 1


def many(n: int) -> Spans:
    """Return jobs of one second, of which each worker computes one every two seconds."""
    return spans(*((i, 0, i % 2, Kind.COUNTED, i, i, i + 1, i + 1) for i in range(n)))


def test_many_attempts_become_shares_of_time() -> None:
    n = MOST_SPANS + 100
    found = view(many(n)).within(0, n * S)
    assert found["spans"] is None
    lanes = np.array(found["shares"])
    assert lanes.shape[0] == 2
    assert lanes.shape[1] * 2 <= 4000
    assert lanes[:, :, Kind.COUNTED].mean(axis=1) == pytest.approx([0.5, 0.5], abs=0.01)
    assert lanes[:, :, 1:].max() == 0


def test_shares_are_those_of_the_range_alone() -> None:
    n = 4 * MOST_SPANS
    jobs = many(n)
    slow = replace(jobs, start=jobs.sent, end=jobs.sent + 2 * S, counted=jobs.sent + 2 * S)
    shares = np.array(view(slow).within(S * n // 4, S * 3 * n // 4)["shares"])
    assert shares[:, :, Kind.COUNTED] == pytest.approx(1.0, abs=1e-3)


def test_without_attempts_the_view_is_empty() -> None:
    found = view(spans()).within(0, 10)
    assert (found["lanes"], found["spans"], found["steps"]["n"]) == ([], [], 0)
