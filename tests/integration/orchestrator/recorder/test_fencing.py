"""Of two recorders of one run, the later one writes."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import OuterStepRepository, RunRepository
from metafleet.errors import FencedError, RunNotFoundError
from metafleet.orchestrator.recording.recorder import Recorder
from tests.databases import make_jobs, make_step
from tests.integration.orchestrator.recorder.rows import QUICK, checkpoint, steps_of, take_over


def test_a_fenced_out_owner_writes_nothing_more(
    database: Database, run: RunRecord, spill_path: Path
) -> None:
    recorder = Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK)
    recorder.record_step(make_step(1), make_jobs(1))
    recorder.flush()
    take_over(database, run.id)

    with pytest.raises(FencedError, match=r"at epoch 1, not 0; .* rows are kept in"):
        for step in range(2, 10_000):
            recorder.record_step(make_step(step), make_jobs(step))
            time.sleep(0.001)
    for call in (recorder.flush, recorder.close):
        with pytest.raises(FencedError):
            call()
    assert steps_of(database, run.id) == [1]


def test_the_new_owner_fills_gaps_from_the_old_one_but_keeps_its_own_rows(
    database: Database, run: RunRecord, spill_path: Path
) -> None:
    old = Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK)
    take_over(database, run.id)
    with Recorder(database, run, epoch=1, spill_path=spill_path, limits=QUICK) as new:
        new.record_step(make_step(2, loss=22.0), make_jobs(2))
        assert new.flush()
        old.record_step(make_step(1, loss=1.0), make_jobs(1))
        old.record_step(make_step(2, loss=2.0), make_jobs(2))
        old.record_status(RunStatus.FAILED, error="fenced")
        with pytest.raises(FencedError):
            old.flush()

        assert new.flush()
    assert steps_of(database, run.id) == [1, 2]
    with database.session(read_only=True) as session:
        assert [s.loss for s in OuterStepRepository(session).list(run.id)] == [1.0, 22.0]
        found = RunRepository(session).get(run.id)
    assert (found.steps_done, found.status) == (2, RunStatus.CREATED)


def test_rows_from_before_the_owner_raised_the_epoch_are_its_own(
    database: Database, run: RunRecord, recorder: Recorder
) -> None:
    recorder.record_step(make_step(1, loss=1.0), make_jobs(1))
    recorder.flush()
    recorder.record_step(make_step(1, loss=2.0), make_jobs(1))
    recorder.record_checkpoint(checkpoint(1))
    assert recorder.raise_epoch() == 1
    recorder.record_step(make_step(2), make_jobs(2))
    assert recorder.flush()

    with database.session(read_only=True) as session:
        assert OuterStepRepository(session).list(run.id)[0].loss == 2.0
        assert RunRepository(session).get(run.id).checkpoint_sha256 == "c" * 64
    take_over(database, run.id)
    with pytest.raises(FencedError, match="at epoch 2, not 1"):
        recorder.raise_epoch()


def test_a_run_that_does_not_exist_is_said_to_the_owner(
    database: Database, run: RunRecord, spill_path: Path
) -> None:
    gone = replace(run, id=77)
    recorder = Recorder(database, gone, epoch=0, spill_path=spill_path, limits=QUICK)
    recorder.record_step(make_step(1))

    with pytest.raises(RunNotFoundError, match=r"no run 77.*\(1 rows are kept in"):
        recorder.flush()
    assert "no run 77" in str(recorder.status)


def test_the_first_error_of_a_block_is_not_hidden(
    database: Database, run: RunRecord, spill_path: Path
) -> None:
    gone = replace(run, id=77)
    with (
        pytest.raises(ZeroDivisionError),
        Recorder(database, gone, epoch=0, spill_path=spill_path, limits=QUICK) as recorder,
    ):
        recorder.record_step(make_step(1))
        1 / 0  # noqa: B018 - any error of the owner's
