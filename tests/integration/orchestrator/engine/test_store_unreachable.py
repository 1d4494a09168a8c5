"""A worker that reaches the broker and not the blob store gives its jobs back."""

import signal
from dataclasses import replace
from pathlib import Path

from tests.fleet import Fleet, wait_until
from tests.running import Running
from tests.runs import config, read_jobs, undisturbed

NOBODY_LISTENS = "redis://127.0.0.1:1/0"
SHORT = config(
    outer={"steps": 3},
    validation={"every": 0},
    test={"episodes": 2, "baselines": False},
    engine={"max_attempts": 1},  # one attempt spent would end the run
)


def test_a_worker_without_the_store_spends_no_attempt(fleet: Fleet, tmp_path: Path) -> None:
    expected = undisturbed(fleet.settings, SHORT)
    (sound,) = fleet.start(1)
    (cut_off,) = fleet.start(1, environment={"METAFLEET_BLOBS_URL": NOBODY_LISTENS})
    # the other one gets a job for sure, and no state; later it finds those that this one fetched
    # for their host, and cannot store its sum
    sound.send(signal.SIGSTOP)
    # as from another host: the state comes from the store
    running = Running(replace(fleet.settings, host_cache_dir=tmp_path / "memory"), SHORT)

    wait_until(lambda: " refused: " in cut_off.log.read_text(), "a refusal")
    sound.send(signal.SIGCONT)

    assert running.result().checkpoint_sha256 == expected
    jobs = read_jobs(fleet.settings, running.run)
    assert {job.worker.split(":")[1] for job in jobs} == {str(sound.pid)}
    assert "cannot be reached" in cut_off.log.read_text()
