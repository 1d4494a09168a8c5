"""`metafleet chaos` on a real worker, and on an abandoned run."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from metafleet.contracts.connections import connect
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.presence import announce, list_workers
from metafleet.contracts.settings import child_environment
from metafleet.orchestrator.cli.main import main
from tests.fleet import Fleet, wait_until
from tests.runs import config, new_run


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is no worker."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        yield process
        process.kill()


def test_chaos_kills_only_workers_and_ends_when_the_run_is_abandoned(
    fleet: Fleet,
    bystander: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in child_environment(fleet.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("METAFLEET_DATABASE_URL", raising=False)
    monkeypatch.setenv("METAFLEET_CHAOS", "1")
    monkeypatch.setattr("metafleet.orchestrator.cli.chaos._ABANDONED_AFTER_S", 2.0)
    run = new_run(fleet.settings, config())
    (victim,) = fleet.start(1, as_command=True)  # chaos knows a worker by its command
    with connect(str(fleet.settings.broker_url)) as client:
        (seen,) = list_workers(client)
        announce(client, replace(seen, name="cpu9@test", pid=bystander.pid))
        client.set(RunKeys(run.uid).lease, "somebody", px=3000)

    assert main(["chaos", "--run", run.uid, "--kill-every", "0.2s"]) == 1

    error = capsys.readouterr().err
    assert error.count("killed ") == 1 and f"killed cpu0@test (process {victim.pid})" in error
    wait_until(lambda: victim.process.poll() is not None, "the worker's end")
    assert bystander.poll() is None
    assert f"run {run.id} stood still at step 0 for 2 s and no orchestrator owns it" in error
    assert error.rstrip().endswith(f"continue it with `metafleet runs resume {run.id}`")
