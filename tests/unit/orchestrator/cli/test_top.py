"""`metafleet top`: what a screen of each size shows, and plain lines in a pipe."""

import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from metafleet.orchestrator.cli.main import main
from metafleet.orchestrator.cli.top_view import lines, screen, summary
from metafleet.orchestrator.monitoring.monitor import Snapshot
from tests.fleet import wait_until
from tests.paths import REPOSITORY
from tests.unit.orchestrator.monitoring.snapshots import FULL, worker


def rendered(found: Snapshot, width: int, height: int = 24) -> str:
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(screen(found, at="12:00:00", width=width, height=height))
    return captured.get()


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_screen_shows_runs_stragglers_and_workers_at_any_width(width: int) -> None:
    text = rendered(FULL, width)

    assert max(map(len, text.splitlines())) <= width
    whole = " ".join(text.split())
    assert "12:00:00" in text and "9 open shards" in whole
    assert "12/40" in text and "retrying" in text and "1.50 s" in text
    assert "cpu0@lab" in text and "dead@lab" in text and "silent" in text
    if width != 80:
        assert "shard 2 on lab:42 (median 0.50 s)" in whole


def test_only_the_name_of_a_run_is_cut() -> None:
    assert FULL.runs is not None
    (open_run,) = FULL.runs.open_runs
    long = replace(open_run, run=replace(open_run.run, name="n" * 200, steps_done=123456))

    text = rendered(replace(FULL, runs=replace(FULL.runs, open_runs=(long,))), 80)

    (row,) = (line for line in text.splitlines() if "nnn" in line)
    assert "n…" in row and row.count("…") == 1 and "123456/40" in row


def test_more_than_fits_is_counted() -> None:
    assert FULL.fleet is not None
    many = tuple(worker(f"cpu{i:02}@lab") for i in range(50))

    text = rendered(replace(FULL, fleet=replace(FULL.fleet, workers=many)), 80, 24)

    assert len(text.splitlines()) <= 24
    assert "... 41 more" in text


def test_what_does_not_answer_takes_one_line_and_the_rest_is_shown() -> None:
    away = replace(FULL, fleet=None, fleet_problem="Redis at redis://host:6379/0 is away")

    assert next(iter(summary(away))) == "no fleet: Redis at redis://host:6379/0 is away"
    assert "retrying" in rendered(away, 80)
    assert next(iter(summary(Snapshot(runs_problem="locked")))) == "no fleet: "


def test_a_hostile_name_is_not_markup() -> None:
    assert FULL.runs is not None
    (open_run,) = FULL.runs.open_runs
    hostile = replace(open_run, run=replace(open_run.run, name="[red]x[/]"))

    assert "[red]x[/]" in rendered(
        replace(FULL, runs=replace(FULL.runs, open_runs=(hostile,))), 160
    )


def test_lines_say_the_same_in_a_pipe() -> None:
    run, *workers = lines(FULL)

    assert run == (
        "run 1 sinusoid-maml retrying, step 12/40, 0.2 s a step, 64.0 episodes/s, loss 0.2500, "
        "slowest 1.50 s, shard 2 on lab:42 (median 0.50 s), step 13, shard 2: lost"
    )
    assert workers[1] == "worker gpu0@lab cuda:0 NVIDIA H200, computes"


def test_a_pipe_without_fleet_and_database_gets_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("METAFLEET_BROKER_URL", "METAFLEET_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path))

    assert main(["top", "--count", "1"]) == 0

    fleet, runs = capsys.readouterr().out.splitlines()
    assert "no fleet: no Redis is configured" in fleet
    assert "no runs: no database at" in runs
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "metafleet.orchestrator", "top", "--every", "0.2"],
        env={**os.environ, "METAFLEET_HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "80"},
        cwd=REPOSITORY,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = bytearray()

    def has(text: bytes) -> bool:
        with suppress(OSError):
            seen.extend(os.read(ours, 65536))
        return text in seen

    wait_until(lambda: has(b"no runs"), "the screen")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    has(b"")
    assert b"\x1b[?1049h" in seen and b"\x1b[?1049l" in seen  # the other screen was left
    assert b"Traceback" not in seen and b"\x1b[?25h" in seen  # the cursor is shown again
    os.close(ours)
