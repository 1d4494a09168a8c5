"""Of two recorders of one run, the later one writes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection

from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import OuterStepRepository, RunRepository
from metafleet.errors import DatabaseUnavailableError, FencedError, RunNotFoundError
from metafleet.orchestrator.recording.recorder import Recorder
from tests.databases import make_jobs, make_step, new_run
from tests.integration.orchestrator.recording.rows import QUICK, checkpoint, steps_of, take_over


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


class LosesAnAnswer(Database):
    """Executes calls; on request, loses the next answer to a call other than a read."""

    is_losing = False

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Connection]:
        with super().session(read_only=read_only) as session:
            yield session
        if self.is_losing and not read_only:
            self.is_losing = False
            raise DatabaseUnavailableError("the connection broke before the answer came")


def test_an_epoch_raised_without_an_answer_is_the_owner_s_own(
    tmp_path: Path, spill_path: Path
) -> None:
    with LosesAnAnswer.open(f"sqlite:///{tmp_path}/lossy.db") as database:
        with database.session() as session:
            runs = RunRepository(session)
            run_id = runs.add(new_run()).id
            epoch = runs.claim(run_id, seen_epoch=0, attach_to="host:1/a")
            run = runs.get(run_id)
        with Recorder(
            database, run, epoch=epoch, owner="host:1/a", spill_path=spill_path, limits=QUICK
        ) as recorder:
            database.is_losing = True
            with pytest.raises(DatabaseUnavailableError):
                recorder.raise_epoch(41)

            assert recorder.is_current()
            recorder.record_step(make_step(1), make_jobs(1))
            assert recorder.flush()
            assert recorder.raise_epoch(41) == 43
            assert recorder.raise_epoch(1000) == 1001


def test_the_same_number_of_another_owner_is_not_ours(
    database: Database, spill_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.session() as session:
        runs = RunRepository(session)
        run_id = runs.add(new_run()).id
        epoch = runs.claim(run_id, seen_epoch=0, attach_to="host:1/a")
        run = runs.get(run_id)
    recorder = Recorder(
        database, run, epoch=epoch, owner="host:1/a", spill_path=spill_path, limits=QUICK
    )

    def away(*_: object, **__: object) -> int:
        raise DatabaseUnavailableError("away")

    with monkeypatch.context() as patch, pytest.raises(DatabaseUnavailableError):
        patch.setattr(RunRepository, "claim", away)
        recorder.raise_epoch()
    with database.session() as session:
        RunRepository(session).claim(run_id, seen_epoch=epoch, attach_to="host:2/b")

    assert not recorder.is_current()
    with pytest.raises(FencedError):
        recorder.raise_epoch()
    recorder.close()
