"""A process is known to have died by its name, where its pid means anything."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from metafleet.orchestrator.runs import process_name as names
from metafleet.orchestrator.runs.process_name import has_died, process_name
from tests.fleet import ROOT

PRINT_AND_WAIT = """
import sys
from metafleet.orchestrator.runs.process_name import process_name
print(process_name(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PRINT_AND_WAIT]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        yield process


def test_this_process_lives_and_has_a_name_of_its_own_each_time() -> None:
    first, second = process_name(), process_name()

    assert first != second
    assert not has_died(first) and not has_died(second)
    assert first.split("/")[0].endswith(f":{os.getpid()}")


def test_a_killed_process_has_died_before_and_after_its_parent_asks(
    process: subprocess.Popen[str],
) -> None:
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    assert not has_died(name)

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in the table
    assert has_died(name)
    process.wait()
    assert has_died(name)


def test_another_process_of_the_same_pid_is_not_the_one_that_died() -> None:
    place, _, rest = process_name().rpartition("/")
    space, started, nonce = rest.split("-")

    assert has_died(f"{place}/{space}-{int(started) - 1}-{nonce}")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "host",
        "host:1/x",
        "laptop:999999999/a1b2c3d4",
        "laptop:999999999/0123456789ab-77-a1b2c3d4",
    ],
)
def test_nothing_is_known_of_processes_of_elsewhere_or_of_earlier_versions(name: str) -> None:
    assert not has_died(name)


def test_nothing_is_known_where_pids_cannot_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_space", lambda: "")

    assert not has_died(process_name().replace(f":{os.getpid()}/", ":999999999/"))
