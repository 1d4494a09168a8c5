"""The recorder loses no row and writes none twice."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import (
    CheckpointRepository,
    EpisodeResultsRepository,
    EvaluationRepository,
    JobRepository,
    OuterStepRepository,
    RunRepository,
)
from metafleet.orchestrator.recording.recorder import Recorder
from tests.databases import make_jobs, make_step
from tests.integration.orchestrator.recording.rows import (
    assert_recorded,
    checkpoint,
    episodes,
    evaluation,
    eventually,
    steps_of,
)
from tests.paths import REPOSITORY


def test_everything_recorded_is_in_the_database_after_a_flush(
    database: Database, run: RunRecord, recorder: Recorder
) -> None:
    for step in range(1, 31):
        recorder.record_step(make_step(step), make_jobs(step))
    recorder.record_jobs(make_jobs(30, stream="meta_val"))
    recorder.record_evaluation(evaluation(30), episodes(30))
    recorder.record_checkpoint(checkpoint(30))
    recorder.record_status(RunStatus.FINISHED)

    assert recorder.flush() and recorder.status is None
    assert_recorded(database, run.id, 30)
    with database.session(read_only=True) as session:
        found = RunRepository(session).get(run.id)
        assert len(JobRepository(session).list(run.id, stream="meta_val")) == 4
        assert EvaluationRepository(session).list(run.id) == (evaluation(30),)
        assert EpisodeResultsRepository(session).list(run.id) == (episodes(30),)
        assert CheckpointRepository(session).list(run.id) == (checkpoint(30),)
    assert (found.steps_done, found.checkpoint_sha256) == (30, "c" * 64)
    assert found.status is RunStatus.FINISHED


def test_rows_arrive_without_a_flush(
    database: Database, run: RunRecord, recorder: Recorder
) -> None:
    recorder.record_step(make_step(1), make_jobs(1))

    eventually(lambda: steps_of(database, run.id) == [1])


def test_a_replayed_step_is_there_once_with_its_newest_numbers(
    database: Database, run: RunRecord, recorder: Recorder
) -> None:
    for loss in (3.0, 2.0):
        recorder.record_step(make_step(1, loss=loss), make_jobs(1))
        recorder.record_step(make_step(2, loss=loss), make_jobs(2))
        recorder.flush()

    with database.session(read_only=True) as session:
        assert [s.loss for s in OuterStepRepository(session).list(run.id)] == [2.0, 2.0]
    assert_recorded(database, run.id, 2)


def test_a_flush_waits_for_no_rows_that_came_after_it(
    database: Database, run: RunRecord, recorder: Recorder, spill_path: Path
) -> None:
    ended = threading.Event()

    def go_on() -> None:
        for step in range(2, 100_000):
            recorder.record_step(make_step(step))
            if ended.wait(0.001):
                return

    recorder.record_step(make_step(1), make_jobs(1))
    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        assert recorder.flush(timeout_s=30.0)
        assert 1 in steps_of(database, run.id)
        assert not spill_path.exists()
    finally:
        ended.set()
        thread.join()


def test_closing_twice_is_harmless(recorder: Recorder) -> None:
    assert recorder.close() and recorder.close()


RECORD_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
from metafleet.db.engine import Database
from metafleet.db.repositories import RunRepository
from metafleet.orchestrator.recording.recorder import Recorder
from tests.databases import make_jobs, make_step
with Database.open(sys.argv[1]) as database:
    with database.session() as session:
        run = RunRepository(session).get(1)
    recorder = Recorder(database, run, epoch=0, spill_path=Path(sys.argv[2]))
    for step in count(1):
        recorder.record_step(make_step(step), make_jobs(step))
        if step % 10 == 0:
            recorder.flush()
            print(step, flush=True)
"""


def test_kill_9_loses_nothing_that_was_flushed(
    database: Database, database_url: str, run: RunRecord, spill_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RECORD_FOR_EVER, database_url, str(spill_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    flushed = [int(process.stdout.readline()) for _ in range(5)][-1]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    with Recorder(database, run, epoch=0, spill_path=spill_path) as recorder:
        assert recorder.flush()
    steps = steps_of(database, run.id)
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= flushed
    assert_recorded(database, run.id, len(steps))
