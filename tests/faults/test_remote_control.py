"""The broker's password alone gives no control over workers; workers that only look alive."""

import os
from pathlib import Path

import pytest

from metafleet.contracts.celery_app import make_app
from metafleet.contracts.presence import list_workers
from metafleet.orchestrator.engine import roll_call
from tests.fleet import ROOT, Fleet, wait_until
from tests.redis_server import RedisServer
from tests.running import Running


def test_workers_obey_no_remote_control(fleet: Fleet, expected: str) -> None:
    fleet.start(1)
    (worker,) = fleet.workers
    control = make_app(str(fleet.settings.broker_url)).control

    running = Running(fleet.settings)

    def attack() -> None:
        control.rate_limit("metafleet.inner_loop", "1/h")
        control.cancel_consumer("inner.cpu")
        control.pool_shrink(1)
        control.shutdown()
        assert control.ping(timeout=1.0) == []

    running.disturb(attack)

    running.assert_undisturbed(expected, "shutdown, rate limit by remote control", "ignored")
    assert worker.process.poll() is None


def test_a_worker_that_looks_alive_and_takes_nothing(
    fleet: Fleet, expected: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roll_call, "STARVES_AFTER_S", 3.0)
    fleet.start(1, environment={"PYTHONPATH": _with_remote_control(fleet.settings.home)})
    control = make_app(str(fleet.settings.broker_url), fleet.settings.signing_key).control
    (answer,) = control.cancel_consumer("inner.cpu", reply=True, timeout=10.0)
    assert "ok" in answer["cpu0@test"]

    running = Running(fleet.settings)
    wait_until(lambda: running.watcher.notices, "the notice that a worker takes nothing")

    assert "cpu0@test looks alive but has taken no job for" in running.watcher.notices[0]
    with redis_server.client() as client:
        assert [worker.is_alive for worker in list_workers(client)] == [True]
    running.disturb(lambda: fleet.start(1), after_step=0)
    running.assert_undisturbed(expected, "worker alive that takes no jobs", "named, not counted on")


def _with_remote_control(home: Path) -> str:
    """A path on which what starts a worker turns its remote control on."""
    site = home / "obedient"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "import metafleet.contracts.celery_app as app\nmake_app = app.make_app\n"
        "def obedient(*arguments):\n"
        "    made = make_app(*arguments)\n"
        "    made.conf.worker_enable_remote_control = True\n"
        "    return made\n"
        "app.make_app = obedient\n"
    )
    return os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
