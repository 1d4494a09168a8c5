"""Servers that take runs from one queue: killed, frozen, stopped, and asked to cancel."""

import json
import os
import signal
import time
from datetime import UTC, datetime

from metafleet.db.records import RunStatus
from tests.fleet import Fleet, wait_until
from tests.integration.orchestrator.service.servers import command, queue_run, serving
from tests.runs import (
    assert_every_shard_once,
    config,
    read_run,
    read_steps,
    undisturbed,
)

STEPS = 40
EXPERIMENT = config(
    outer={"steps": STEPS},
    learner={"inner_steps": 5},
    validation={"every": 0},
    test={"baselines": False},
)
ENDLESS = config(
    outer={"steps": 100_000}, validation={"every": 0}, engine={"checkpoint_every": 100_000}
)
DIVERGES = config(learner={"inner_lr": 1e30}, outer={"steps": 3})


def test_a_run_whose_process_and_then_whose_server_is_killed_ends_once_with_the_same_bits(
    fleet: Fleet,
) -> None:
    settings = fleet.settings
    expected = undisturbed(settings, EXPERIMENT)
    fleet.start(1)
    run = queue_run(settings, EXPERIMENT)
    with serving(settings, 2) as servers:
        watcher = command(settings, "runs", "attach", str(run.id), "--json")
        wait_until(lambda: read_run(settings, run).steps_done >= 5, "step 5", 60)
        (victim,) = [s for s in servers if s.owns(read_run(settings, run))]

        victim.executor(run).kill()
        assert "SIGKILL" in victim.await_event("queued", run)["text"]
        wait_until(lambda: len(read_steps(settings, run)) >= 10, "step 10", 60)
        victim, heir = sorted(servers, key=lambda s: not s.owns(read_run(settings, run)))
        victim.kill()
        killed_s = time.monotonic()

        heir.await_event("took_over", run)
        n_steps = len(read_steps(settings, run))
        wait_until(lambda: len(read_steps(settings, run)) > n_steps, "a step after the kill", 30)
        took_s = time.monotonic() - killed_s
        heir.await_event("finished", run, 60)
        report = json.loads(watcher.communicate(timeout=20)[0])

    ended = read_run(settings, run)
    assert took_s < 20
    assert (ended.status, ended.epoch, ended.owner) == (RunStatus.FINISHED, 3, None)
    assert report["checkpoint_sha256"] == ended.checkpoint_sha256 == expected
    assert_every_shard_once(settings, run, steps=STEPS, shards=4)
    assert sum(e["event"] == "finished" for s in servers for e in s.events) == 1


def test_runs_begin_by_priority_fail_are_cancelled_and_go_back_to_the_queue(fleet: Fleet) -> None:
    settings = fleet.settings
    fleet.start(1)
    low, high = (queue_run(settings, ENDLESS, priority=p) for p in (0, 5))
    failing = queue_run(settings, DIVERGES, priority=9)
    with serving(settings, 1) as (server,):
        server.await_event("failed", failing, 60)
        wait_until(lambda: read_run(settings, high).steps_done >= 2, "two steps", 60)
        assert read_run(settings, low).status is RunStatus.QUEUED

        assert command(settings, "runs", "cancel", str(high.id)).wait(20) == 0
        cancelled_at = read_run(settings, high).finished_at
        server.await_event("cancelled", high, 20)
        assert cancelled_at is not None
        took_s = (datetime.now(UTC) - cancelled_at).total_seconds()

        wait_until(lambda: read_run(settings, low).steps_done >= 2, "two steps", 60)
        assert server.stop() == 128 + signal.SIGTERM

    assert took_s < 10
    after = read_run(settings, low)
    assert (after.status, after.owner) == (RunStatus.QUEUED, None)
    assert after.checkpoint_sha256 is not None  # far from the next regular one
    assert server.find("queued", low) and server.find("stopped")
    assert read_run(settings, high).status is RunStatus.CANCELLED
    failed = read_run(settings, failing)
    assert (failed.status, failed.deaths) == (RunStatus.FAILED, 0)
    assert "support loss is inf" in str(failed.error)


def test_a_frozen_server_finds_its_run_taken_and_its_process_stopped(fleet: Fleet) -> None:
    settings = fleet.settings
    fleet.start(1)
    run = queue_run(settings, ENDLESS)
    with serving(settings, 2) as servers:
        wait_until(lambda: read_run(settings, run).steps_done >= 2, "two steps", 60)
        frozen, heir = sorted(servers, key=lambda s: not s.owns(read_run(settings, run)))
        executor = frozen.executor(run)

        os.kill(frozen.process.pid, signal.SIGSTOP)
        heir.await_event("took_over", run)
        wait_until(lambda: executor.status() == "zombie", "the end of the fenced process", 10)
        os.kill(frozen.process.pid, signal.SIGCONT)

        frozen.await_event("lost", run)
        assert heir.owns(read_run(settings, run))
