"""The spill file: rows come back as they went in, also after crashes and full disks."""

import math
import resource
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metafleet.db.records import (
    CheckpointRecord,
    EpisodeResultsRecord,
    EvaluationRecord,
    InnerCurveRecord,
    InnerRatesRecord,
    OuterStepRecord,
    RunStatus,
)
from metafleet.orchestrator.recording.rows import EpochRow, StatusChange, from_line, to_line
from metafleet.orchestrator.recording.spill import SpillFile
from tests.databases import make_jobs, make_step

NOW = datetime(2026, 4, 1, 10, 30, 0, 123456, tzinfo=UTC)


def episodes_of(
    losses: tuple[float, ...], accuracies: tuple[float, ...] | None
) -> EpisodeResultsRecord:
    return EpisodeResultsRecord(
        step=2,
        split="meta_test",
        label="trained",
        episodes=len(losses),
        losses=losses,
        accuracies=accuracies,
    )


@pytest.fixture
def file(tmp_path: Path) -> SpillFile:
    return SpillFile(tmp_path / "new" / "rows.jsonl")


@pytest.mark.parametrize(
    "row",
    [
        make_step(3),
        *make_jobs(1),
        InnerCurveRecord(
            step=2,
            split="meta_test",
            label="trained",
            episodes=20,
            support_losses=(2.5, 0.1),
            support_accuracies=None,
            query_losses=(2.6, 0.5),
            query_losses_ci95=(1e-300, 0.25),
            query_accuracies=None,
            query_accuracies_ci95=None,
        ),
        InnerRatesRecord(step=4, layers=("a.weight", "ä"), rates=(0.1, -1e-300, 2.5, 0.0)),
        StatusChange(status=RunStatus.FAILED, error="a\nb ✓"),
        CheckpointRecord(step=1, path="ä b", sha256="0" * 64, size_bytes=2**40, created_at=NOW),
        EvaluationRecord(
            step=1,
            split="meta_val",
            label="trained",
            episodes=9,
            loss=math.inf,
            loss_ci95=1e-300,
            accuracy=None,
            accuracy_ci95=None,
            batch_norm="none",
            created_at=NOW,
        ),
        episodes_of((0.1, math.inf), (1 / 3, 1.0)),
        episodes_of((1e-300,), None),
    ],
)
def test_every_kind_of_row_survives_a_line(row: object) -> None:
    line = to_line(EpochRow(3, row))  # type: ignore[arg-type]

    back = from_line(line)
    assert back == EpochRow(3, row)  # type: ignore[arg-type]
    assert getattr(back.row, "created_at", NOW) == NOW  # type: ignore[union-attr]
    assert line.count("\n") == 1


@given(st.floats(), st.floats(), st.none() | st.floats(0, 1))
def test_numbers_keep_their_bits(loss: float, lr: float, accuracy: float | None) -> None:
    step = OuterStepRecord(
        step=1, loss=loss, accuracy=accuracy, grad_norm=0.1, lr=lr, episodes=1, step_s=0.1
    )

    back = from_line(to_line(EpochRow(0, step)))
    assert back is not None and repr(back.row) == repr(step)


@pytest.mark.parametrize("cut", [1, 20, 60, -2])
def test_a_torn_line_costs_only_itself(file: SpillFile, cut: int) -> None:
    file.append(rows(1, 2))
    file.path.write_bytes(file.path.read_bytes() + to_line(rows(9, 9)[0]).encode()[:cut])
    file.append(rows(3, 4))

    assert replay(file) == rows(1, 4)


@pytest.mark.parametrize("line", ["", "7", "null", "[]", '{"v": 2}', '{"v": 1, "row": {}}'])
def test_a_line_of_something_else_is_nothing(line: str) -> None:
    assert from_line(line) is None


def test_a_replay_that_fails_starts_again_and_keeps_the_order(file: SpillFile) -> None:
    file.append(rows(1, 5))
    with pytest.raises(ZeroDivisionError), file.replaying(2) as batches:
        assert next(batches) == rows(1, 2)
        file.append(rows(6, 7))
        raise ZeroDivisionError

    assert not file.is_empty()
    assert replay(file) == rows(1, 5)
    assert replay(file) == rows(6, 7)
    assert file.is_empty() and replay(file) == []


def test_two_do_not_replay_at_once(file: SpillFile) -> None:
    file.append(rows(1, 3))
    with file.replaying(10) as batches:
        assert replay(SpillFile(file.path)) == []
        assert [item for batch in batches for item in batch] == rows(1, 3)
    assert file.is_empty()


def test_a_disk_that_fills_up_leaves_no_half_rows(file: SpillFile) -> None:
    file.append(rows(1, 1))
    before = file.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 400, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            file.append(rows(2, 50))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert file.path.read_bytes() == before


def rows(first: int, last: int) -> list[EpochRow]:
    return [EpochRow(1, make_step(step)) for step in range(first, last + 1)]


def replay(file: SpillFile) -> list[EpochRow]:
    with file.replaying(2) as batches:
        return [item for batch in batches for item in batch]
