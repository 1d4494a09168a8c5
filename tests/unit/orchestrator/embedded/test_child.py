"""One supervised process."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from metafleet.orchestrator.embedded.child import Child, ChildSpec, describe_exit

_FOREVER = "import time; time.sleep(600)"


def spec(folder: Path, code: str, stdin: bytes = b"") -> ChildSpec:
    return ChildSpec(
        label="worker cpu1",
        argv=(sys.executable, "-c", code),
        environment={"PATH": os.defpath},
        log_path=folder / "child.log",
        folder=folder,
        stdin=stdin,
    )


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Child]:
    child = Child(spec(tmp_path, _FOREVER))
    child.start()
    yield child
    child.wait_or_kill(0.0)


def poll(child: Child, timeout_s: float = 10.0) -> str:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        notice = child.tick()
        if notice is not None:
            return notice
        time.sleep(0.01)
    raise AssertionError("the child did not die")


def test_a_child_that_dies_is_announced_and_started_again(started: Child) -> None:
    first = started.pid
    assert first is not None
    os.kill(first, 9)

    notice = poll(started)
    assert notice.startswith("worker cpu1 died (SIGKILL); starting it again in 0.5 s, log: ")

    deadline = time.monotonic() + 10
    while started.pid is None and time.monotonic() < deadline:
        assert started.tick() is None
        time.sleep(0.01)
    assert started.pid not in (None, first)


def test_a_child_that_keeps_dying_waits_longer_each_time(tmp_path: Path) -> None:
    child = Child(spec(tmp_path, "raise SystemExit(3)"))
    child.start()

    assert "exit status 3); starting it again in 0.5 s" in poll(child)
    assert "starting it again in 1 s" in poll(child)
    child.terminate()
    child.wait_or_kill(0.0)


def test_standard_input_reaches_the_child_and_its_output_the_log(tmp_path: Path) -> None:
    child = Child(spec(tmp_path, "import sys; print(sys.stdin.read()[::-1])", stdin=b"secret"))
    child.start()
    poll(child)
    child.terminate()

    assert (tmp_path / "child.log").read_text() == "terces\n"
    assert "secret" not in repr(child.spec)


def test_a_child_that_ignores_termination_is_killed_at_the_deadline(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); "
    child = Child(spec(tmp_path, code + "time.sleep(600)"))
    child.start()
    pid = child.pid
    assert pid is not None
    deadline = time.monotonic() + 10
    while (tmp_path / "child.log").read_text() != "up\n" and time.monotonic() < deadline:
        time.sleep(0.01)

    child.terminate()
    child.wait_or_kill(time.monotonic() + 0.2)

    assert not psutil.pid_exists(pid)
    assert child.tick() is None and child.pid is None


def test_ends_are_described_by_status_or_signal() -> None:
    assert describe_exit(3) == "exit status 3"
    assert describe_exit(-11) == "SIGSEGV"
    assert describe_exit(-200) == "signal 200"
