"""The `metafleet` command interrupted, or at its end: what it leaves."""

import json
import os
import signal
from pathlib import Path

import pytest

from metafleet.db.records import RunStatus
from tests.fleet import wait_until
from tests.integration.orchestrator.cli.terminal import Terminal


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data in which the first demo draws the glyphs for both."""
    return tmp_path_factory.mktemp("drawn")


def test_ctrl_c_leaves_a_run_that_goes_on_to_the_same_bits(terminal: Terminal) -> None:
    tiny = (str(terminal.tiny), "--in-process", "--set", "outer.steps=200")
    process = terminal.start("submit", *tiny)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-2:] == [
        "run 1 can go on from its last checkpoint: `metafleet runs resume 1 --in-process`",
        "interrupted",
    ]
    (run,) = json.loads(terminal.run("runs", "list", "--json").stdout)
    assert run["status"] == RunStatus.INTERRUPTED

    resumed = terminal.run("runs", "resume", "1", "--in-process", "--json")
    undisturbed = terminal.run("submit", *tiny, "--json")
    assert (
        json.loads(resumed.stdout)["checkpoint_sha256"]
        == json.loads(undisturbed.stdout)["checkpoint_sha256"]
    )


def test_sigterm_ends_as_ctrl_c_does_with_its_own_status(terminal: Terminal) -> None:
    process = terminal.start(
        "submit", str(terminal.tiny), "--in-process", "--set", "outer.steps=100000"
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            break
    process.terminate()
    _, err = process.communicate(timeout=60)

    assert process.returncode == 143
    assert "runs resume 1" in err
    (run,) = json.loads(terminal.run("runs", "list", "--json").stdout)
    assert run["status"] == RunStatus.INTERRUPTED


def test_up_serves_a_second_terminal_and_ctrl_c_leaves_nothing(terminal: Terminal) -> None:
    up = terminal.start("up", "--workers", "2")
    try:
        wait_until((terminal.home / "stack.json").exists, "the stack file", 60)
        done = terminal.run("submit", str(terminal.tiny), "--json")
        assert done.returncode == 0, done.stderr
        shown = json.loads(terminal.run("runs", "show", "latest", "--json").stdout)
        assert sum(shown["workers"].values()) > 0
    finally:
        up.send_signal(signal.SIGINT)
        out, err = up.communicate(timeout=60)

    assert up.returncode == 130
    assert "other terminals find this stack" in out
    assert err.split()[-2:] == ["stopped", "interrupted"]
    assert terminal.processes() == []
    assert not (terminal.home / "stack.json").exists()


def test_up_ends_well_when_the_process_that_doctor_names_is_told_to_stop(
    terminal: Terminal,
) -> None:
    up = terminal.start("up", "--workers", "0")
    stack_file = terminal.home / "stack.json"
    wait_until(stack_file.exists, "the stack file", 60)
    os.kill(json.loads(stack_file.read_text())["pid"], signal.SIGTERM)
    _, err = up.communicate(timeout=60)

    assert up.returncode == 0
    assert err.splitlines()[-1] == "stopped"
    assert "error" not in err
    assert terminal.processes() == []


def test_up_says_that_its_stack_ended_where_the_supervisor_was_killed(terminal: Terminal) -> None:
    up = terminal.start("up", "--workers", "0")
    stack_file = terminal.home / "stack.json"
    wait_until(stack_file.exists, "the stack file", 60)
    os.kill(json.loads(stack_file.read_text())["pid"], signal.SIGKILL)
    _, err = up.communicate(timeout=60)

    assert up.returncode == 1
    assert "error: the stack ended by itself; see supervisor.log" in err


def test_the_demo_ends_with_a_report_and_a_curve(terminal: Terminal, drawn: Path) -> None:
    terminal.environment["METAFLEET_DATA_DIR"] = str(drawn)
    done = terminal.run(
        "demo",
        "--steps",
        "4",
        "--set",
        "test.episodes=10",
        "--set",
        "validation.every=2",
        "--set",
        "validation.episodes=4",
        "--set",
        "episodes.meta_train.n_way=5",
    )

    assert done.returncode == 0, done.stderr
    assert "by 2 worker processes" in done.stdout
    for judged in ("chance", "without meta-training", "nearest raw prototype", "meta-trained"):
        assert judged in done.stdout
    assert len(list(terminal.home.glob("runs/*/curve.png"))) == 1
    shown = json.loads(terminal.run("runs", "show", "demo", "--json").stdout)
    assert len(shown["workers"]) == 2
    assert terminal.processes() == []


def test_an_interrupted_demo_leaves_no_process_and_a_run_that_goes_on(
    terminal: Terminal, drawn: Path
) -> None:
    terminal.environment["METAFLEET_DATA_DIR"] = str(drawn)
    process = terminal.start("demo", "--set", "episodes.meta_train.n_way=5", "--steps", "40")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert "metafleet runs resume 1 --in-process" in err
    assert terminal.processes() == []
    (run,) = json.loads(terminal.run("runs", "list", "--json").stdout)
    assert run["status"] == RunStatus.INTERRUPTED
