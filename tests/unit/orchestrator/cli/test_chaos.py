"""`metafleet chaos` kills only Metafleet's own workers."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from metafleet.contracts.presence import WorkerInfo
from metafleet.orchestrator.cli.chaos import _find_process
from metafleet.orchestrator.cli.main import main


def worker(pid: Any, host: str = "") -> WorkerInfo:
    return WorkerInfo(
        name="cpu0@test",
        host=host or socket.gethostname(),
        pid=pid,  # what a broker says may be anything
        device="cpu",
        queues=("inner.cpu",),
        protocol=1,
        version="0.1.0",
        fingerprint="{}",
    )


@contextmanager
def waiting(*words: str) -> Iterator[int]:
    """A process with these words on its command line, which ends with the block."""
    program = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize(
    "pid",
    [
        0,
        1,
        -1,
        pytest.param(-os.getpid(), id="minus this process"),
        pytest.param(os.getpid(), id="this process"),
        2**70,
        True,
        None,
        "1",
        1.5,
    ],
)
def test_a_process_that_is_no_worker_is_left_alone(pid: object) -> None:
    assert _find_process(worker(pid)) is None


@pytest.mark.parametrize(
    "words",
    [
        ("-A", "metafleet.workers.app", "flower"),
        ("metafleet.workers.application", "worker"),
        ("worker",),
    ],
)
def test_a_process_that_looks_like_a_worker_is_left_alone(words: tuple[str, ...]) -> None:
    with waiting(*words) as pid:
        assert _find_process(worker(pid)) is None


@pytest.mark.parametrize(
    "command",
    [
        ("-A", "metafleet.workers.app", "worker"),
        ("--app=metafleet.workers.app", "worker"),
        ("-m", "metafleet.workers"),
    ],
    ids=" ".join,
)
def test_a_worker_of_this_machine_alone_is_found(command: tuple[str, ...]) -> None:
    with waiting(*command, "--pool", "solo") as pid:
        found = _find_process(worker(pid))

        assert found is not None and found.pid == pid
        assert _find_process(worker(pid, host="another-host")) is None
    assert _find_process(worker(pid)) is None


def test_without_permission_nothing_is_killed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("METAFLEET_CHAOS", raising=False)

    assert main(["chaos", "--run", "latest"]) == 1
    assert capsys.readouterr().err.startswith("error: METAFLEET_CHAOS is not 1; set ")
