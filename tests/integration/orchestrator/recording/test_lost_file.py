"""An SQLite file that is deleted or replaced under a run costs no row."""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.db.repositories import RunRepository
from metafleet.errors import DatabaseError, DatabaseUnavailableError
from metafleet.orchestrator.recording.recorder import Recorder
from tests.databases import add_run, make_jobs, make_step
from tests.integration.orchestrator.recording.rows import (
    QUICK,
    assert_recorded,
    checkpoint,
    eventually,
    steps_of,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "metafleet.db"


def unlink(path: Path, *names: str) -> None:
    for name in names:
        Path(f"{path}{name}").unlink()


def delete(path: Path) -> None:
    unlink(path, "", "-wal", "-shm")


def delete_the_main_file(path: Path) -> None:
    path.unlink()


def delete_the_log(path: Path) -> None:
    unlink(path, "-wal")


def delete_the_index(path: Path) -> None:
    unlink(path, "-shm")


def delete_the_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def move_the_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def put_an_older_copy(path: Path) -> None:
    unlink(path, "-wal", "-shm")
    os.replace(f"{path}.older", path)


def put_an_empty_one(path: Path) -> None:
    delete(path)
    with Database.open(f"sqlite:///{path}"):
        pass


LOSSES = [
    delete,
    delete_the_main_file,
    delete_the_log,
    delete_the_index,
    delete_the_folder,
    move_the_folder,
    put_an_older_copy,
    put_an_empty_one,
]


def keep_older_copy(path: Path) -> None:
    with Database.open(f"sqlite:///{path}"):  # the last to close empties the log into the file
        pass
    shutil.copy(path, f"{path}.older")


@pytest.mark.parametrize("lose", LOSSES)
def test_all_rows_are_in_what_is_at_the_path_in_the_end(
    path: Path, spill_path: Path, lose: Callable[[Path], None]
) -> None:
    url = f"sqlite:///{path}"
    with Database.open(url) as database:
        run = add_run(database)
    keep_older_copy(path)
    with Database.open(url) as database:
        with database.session() as session:
            epoch = RunRepository(session).claim(run.id, seen_epoch=0, attach_to="laptop:1/x")
        recorder = Recorder(database, run, epoch=epoch, spill_path=spill_path, limits=QUICK)
        with recorder:
            for step in range(1, 31):
                recorder.record_step(make_step(step), make_jobs(step))
            recorder.record_checkpoint(checkpoint(30))
            assert recorder.flush()
            lose(path)
            for step in range(31, 41):
                recorder.record_step(make_step(step), make_jobs(step))
            recorder.record_status(RunStatus.FINISHED)
            eventually(lambda: recorder.flush(1.0))
            (notice,) = recorder.take_notices()

    assert "was deleted or replaced while in use; 151 rows of run 1 were saved" in notice
    with Database.open(url) as other:
        assert_recorded(other, run.id, 40)
        with other.session(read_only=True) as session:
            found = RunRepository(session).get(run.uid)
    assert (found.status, found.epoch, found.config) == (RunStatus.FINISHED, epoch, run.config)
    assert found.checkpoint_sha256 == "c" * 64
    assert not spill_path.exists()


def test_a_loss_is_noticed_although_nothing_is_recorded(path: Path, spill_path: Path) -> None:
    with Database.open(f"sqlite:///{path}") as database:
        run, other = add_run(database), add_run(database, name="another")
        with Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK) as recorder:
            assert recorder.is_current()
            delete(path)
            assert recorder.is_current()
            assert len(recorder.take_notices()) == 1
            with database.session(read_only=True) as session:
                assert RunRepository(session).get(other.uid).name == "another"


@pytest.mark.parametrize("knows_links", [True, False])
def test_the_file_is_put_back_as_it_was_on_any_file_system(
    path: Path, monkeypatch: pytest.MonkeyPatch, knows_links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not knows_links:
        monkeypatch.setattr(os, "link", refuse)
    path.parent.mkdir()
    path.touch()
    path.chmod(0o640)
    with Database.open(f"sqlite:///{path}") as database:
        run = add_run(database)
        delete(path)

        with database.session(read_only=True) as session:
            assert RunRepository(session).get(run.uid).name == run.name

        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert [*path.parent.glob(f".{path.name}.*")] == []


def test_a_file_that_came_meanwhile_is_not_replaced_where_there_are_no_links(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def come_and_refuse(_source: str, target: Path) -> None:
        target.write_bytes(b"another's")
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", come_and_refuse)
    with Database.open(f"sqlite:///{path}") as database:
        add_run(database)
        delete(path)

        with pytest.raises(DatabaseUnavailableError), database.session(read_only=True):
            pass

    assert path.read_bytes() == b"another's"


def test_with_something_else_in_its_place_training_goes_on_and_rows_wait(
    path: Path, spill_path: Path
) -> None:
    with Database.open(f"sqlite:///{path}") as database:
        run = add_run(database)
        with Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK) as recorder:
            recorder.record_step(make_step(1), make_jobs(1))
            recorder.flush()
            delete(path)
            path.write_bytes(b"garbage" * 1000)
            recorder.record_step(make_step(2), make_jobs(2))
            assert not recorder.flush(1.0)
            assert "file is not a database; " in str(recorder.status)
            with pytest.raises(DatabaseUnavailableError, match="put that one back, or delete"):
                recorder.is_current()
            n_bytes = spill_path.stat().st_size
            assert not recorder.flush(1.0)
            assert spill_path.stat().st_size == n_bytes
            path.unlink()
            eventually(lambda: recorder.flush(1.0))
        assert_recorded(database, run.id, 2)


def test_rows_do_not_go_to_another_run_of_the_same_number(path: Path, spill_path: Path) -> None:
    with Database.open(f"sqlite:///{path}") as database:
        run = add_run(database)
        recorder = Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK)
        recorder.record_step(make_step(1), make_jobs(1))
        assert recorder.flush()
        delete(path)
        with Database.open(f"sqlite:///{path}") as fresh:
            another = add_run(fresh, name="another")
        assert another.id == run.id

        recorder.record_step(make_step(2), make_jobs(2))
        eventually(lambda: "run 1 is " in str(recorder.status))
        assert f"and was {run.uid}" in str(recorder.status)
        assert steps_of(database, another.id) == []


def test_a_run_that_the_database_does_not_know_was_not_taken_over(
    path: Path, spill_path: Path
) -> None:
    with Database.open(f"sqlite:///{path}") as database:
        run = add_run(database)
        recorder = Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK)
        delete(path)
        with Database.open(f"sqlite:///{path}") as fresh:
            another = add_run(fresh, name="another")
            with fresh.session() as session:
                RunRepository(session).next_epoch(another.id)
        assert another.id == run.id

        assert recorder.is_current()
        with pytest.raises(DatabaseError, match="another was put in the place"):
            recorder.close()


def test_what_was_written_while_the_file_was_lost_is_said_to_be_lost(path: Path) -> None:
    with Database.open(f"sqlite:///{path}") as database:
        add_run(database)
        with (
            pytest.raises(DatabaseUnavailableError, match="while it was written to"),
            database.session() as session,
        ):
            RunRepository(session).next_epoch(1)
            delete(path)


def test_two_processes_that_lose_their_file_both_have_their_rows(
    path: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{path}"
    with Database.open(url) as first, Database.open(url) as second:
        runs = [add_run(first), add_run(first, name="another")]
        recorders = [
            Recorder(base, run, epoch=0, spill_path=tmp_path / run.uid / "rows.jsonl", limits=QUICK)
            for base, run in zip((first, second), runs, strict=True)
        ]
        for recorder in recorders:
            recorder.record_step(make_step(1), make_jobs(1))
            recorder.flush()
        delete(path)
        for recorder in recorders:
            recorder.record_step(make_step(2), make_jobs(2))
            eventually(recorder.close)
    with Database.open(url) as database:
        for run in runs:
            assert_recorded(database, run.id, 2)
