"""Orchestrators that die in every phase of a step, and two of them on one run."""

import importlib
import itertools
import os
import signal
import threading
import time
from typing import Any

import pytest

from metafleet.contracts.connections import connect
from metafleet.contracts.ledger import RunLedger
from metafleet.contracts.settings import Settings, child_environment
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord
from metafleet.db.repositories import RunRepository
from metafleet.errors import FencedError, RunLeasedError
from tests.fleet import Fleet
from tests.forks import Fork, run_metafleet
from tests.running import EXPERIMENT, ROWS, SHARDS, STEPS, Row, Running
from tests.runs import assert_every_shard_once, config, end_lease, execute, new_run, undisturbed

# phase -> where the process kills itself: module, class, method, and whether before or after it;
# "stuck": after the call has hung for a while, other threads going on; "soon": in the midst of what
# follows it
PHASES = {
    "before publish": ("metafleet.orchestrator.engine.publisher", "Publisher", "send", "before"),
    "while waiting": ("metafleet.orchestrator.engine.open_step", "OpenStep", "take", "before"),
    "after reduce": ("metafleet.orchestrator.engine.open_step", "OpenStep", "outcome", "after"),
    "before checkpoint": (
        "metafleet.orchestrator.training.checkpoint",
        "CheckpointFolder",
        "write",
        "before",
    ),
    "after checkpoint, before its row": (
        "metafleet.orchestrator.training.checkpoint",
        "CheckpointFolder",
        "write",
        "after",
    ),
    "with a checkpoint half written": (
        "metafleet.orchestrator.training.checkpoint",
        "CheckpointFolder",
        "write",
        "stuck",
    ),
    "before the step's row": (
        "metafleet.orchestrator.recording.recorder",
        "Recorder",
        "record_step",
        "before",
    ),
}


def _resume_and_die(module: str, name: str, method: str, when: str, nth: int, run_id: int) -> None:
    """Resume a run in this process, which kills itself at the nth call of a method."""
    owner = getattr(importlib.import_module(module), name)
    original, calls = getattr(owner, method), itertools.count(1)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def dying(*arguments: Any, **options: Any) -> Any:
        is_time = next(calls) == nth
        if is_time and when == "stuck":
            time.sleep(0.3)
        if is_time and when in ("before", "stuck"):
            die()
        if is_time and when == "soon":
            threading.Timer(0.05, die).start()
        result = original(*arguments, **options)
        if is_time and when == "after":
            die()
        return result

    setattr(owner, method, dying)
    run_metafleet(["runs", "resume", str(run_id), "--json"])


def _die(settings: Settings, run: RunRecord, where: tuple[str, str, str, str], nth: int) -> None:
    log = settings.home / "died.log"
    environment = child_environment(settings) | {"METAFLEET_DATABASE_URL": settings.database_url}
    died = Fork(_resume_and_die, *where, nth, run.id, environment=environment, log=log)
    assert died.wait(120) == -signal.SIGKILL, log.read_text()[-2000:]


@pytest.mark.parametrize("phase", PHASES)
def test_an_orchestrator_killed(standing_fleet: Fleet, expected: str, phase: str) -> None:
    settings = standing_fleet.settings
    run = new_run(settings, EXPERIMENT)
    _die(settings, run, PHASES[phase], nth=2)
    killed_s = time.monotonic()
    # do not wait for the dead owner's lease: what is measured is the way back to work
    end_lease(settings, run)

    running = Running(settings, run=run)
    report = running.result()

    recovered_s = running.watcher.committed_s[0] - killed_s if running.watcher.committed_s else 0.0
    same = report.checkpoint_sha256 == expected
    ROWS.append(Row(f"orchestrator killed {phase}", "resumed, replayed", recovered_s, same))
    assert same
    assert_every_shard_once(settings, run, steps=STEPS, shards=SHARDS)


def test_an_orchestrator_killed_while_a_validation_is_judged(standing_fleet: Fleet) -> None:
    settings = standing_fleet.settings
    validation = {"every": 3, "episodes": 30, "patience": 1}
    experiment = config(**_sections(), validation=validation, engine={"max_staleness": 1})
    run = new_run(settings, experiment)
    begin = ("metafleet.orchestrator.training.validation", "Validator", "begin", "soon")
    _die(settings, run, begin, nth=2)
    end_lease(settings, run)

    running = Running(settings, run=run)

    same = running.result().checkpoint_sha256 == undisturbed(settings, experiment)
    broken = "orchestrator killed while validating, pipelined"
    ROWS.append(Row(broken, "resumed, judged again", None, same))
    assert same


def _sections() -> dict[str, dict[str, object]]:
    tree = EXPERIMENT.to_json()
    return {name: tree[name] for name in ("outer", "learner", "test")}


def test_a_second_orchestrator_on_the_same_host(standing_fleet: Fleet, expected: str) -> None:
    running = Running(standing_fleet.settings)
    running.wait_for_step(2)

    with pytest.raises(RunLeasedError, match=f"run {running.run.id} is being run by another"):
        execute(standing_fleet.settings, running.run)

    running.assert_undisturbed(expected, "second orchestrator, same run", "refused with its owner")


def test_an_orchestrator_whose_run_was_taken_over(standing_fleet: Fleet) -> None:
    settings = standing_fleet.settings
    running = Running(settings)
    running.wait_for_step(2)

    # as one does that found the lease free, while this one was frozen
    with Database.open(settings.database_url) as database, database.session() as session:
        runs, run_id = RunRepository(session), running.run.id
        epoch = runs.claim(run_id, seen_epoch=runs.get(run_id).epoch, attach_to="another:1/x")
    with connect(str(settings.broker_url)) as client:
        another = RunLedger(client, running.run.uid, "another:1/x")
        assert another.take_over(epoch, lease_ms=60_000, is_granted=True).status == "ok"

    with pytest.raises(FencedError, match="taken over"):
        running.result()
    ROWS.append(Row("run taken over by another orchestrator", "fenced out, stopped", None, None))
