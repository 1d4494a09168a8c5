"""The file by which terminals find the embedded stack."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from metafleet.errors import ConfigError
from metafleet.orchestrator.embedded.stack_file import (
    discard_stale_stack,
    is_alive,
    read_stack,
    require_no_stack,
    write_stack_file,
)


def here(pid: int) -> dict[str, object]:
    return {"pid": pid, "host": os.uname().nodename, "broker_url": "redis://:words@127.0.0.1:1/0"}


def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_it_is_written_whole_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"

    write_stack_file(path, here(1))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == here(1)
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_stack_is_refused_and_the_first_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    write_stack_file(path, here(12))

    with pytest.raises(ConfigError, match=r"an embedded stack runs already \(pid 12"):
        write_stack_file(path, here(13))
    with pytest.raises(ConfigError, match="stop it with Ctrl-C"):
        require_no_stack(path)

    assert read_stack(path) == here(12)
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_of_a_dead_supervisor_is_deleted_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    pid = ended_pid()
    write_stack_file(path, here(pid))
    said: list[str] = []

    discard_stale_stack(path, said.append)

    assert said == [f"{path} was left by a stack that no longer runs (pid {pid}); deleted"]
    assert not path.exists()


def test_a_process_that_merely_has_the_same_id_is_not_the_supervisor() -> None:
    assert not is_alive(here(os.getpid()))


def test_records_of_another_host_are_not_checked(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    write_stack_file(path, here(ended_pid()) | {"host": "elsewhere"})

    discard_stale_stack(path, pytest.fail)

    assert path.exists()


def test_missing_and_damaged_files_are_no_stack(tmp_path: Path) -> None:
    assert read_stack(tmp_path / "stack.json") is None
    (tmp_path / "stack.json").write_text("[1]")
    assert read_stack(tmp_path / "stack.json") is None
    require_no_stack(tmp_path / "stack.json")
    discard_stale_stack(tmp_path / "stack.json", pytest.fail)
