"""Failures of the `metafleet` command: one line, an exit status, no traceback."""

import json
import signal
import subprocess
import sys
import time

from tests.fleet import ROOT, wait_until
from tests.integration.orchestrator.cli.terminal import Terminal
from tests.redis_server import RedisServer


def test_a_second_stack_is_refused_in_one_line(terminal: Terminal) -> None:
    up = terminal.start("up", "--workers", "0")
    try:
        wait_until((terminal.home / "stack.json").exists, "the stack file", 60)
        line = terminal.fails("up", "--workers", "0")
    finally:
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)

    assert line.startswith("error: an embedded stack runs already")


def test_no_redis_is_one_line_and_records_no_run(terminal: Terminal) -> None:
    line = terminal.fails("submit", str(terminal.tiny))

    assert line.startswith("error: no Redis is configured: start `metafleet up`")
    assert json.loads(terminal.run("runs", "list", "--json").stdout) == []


def test_a_wrong_redis_password_is_one_line_without_it(
    terminal: Terminal, redis_server: RedisServer
) -> None:
    terminal.environment["METAFLEET_BROKER_URL"] = (
        f"redis://:hushhush@127.0.0.1:{redis_server.port}/0"
    )

    line = terminal.fails("submit", str(terminal.tiny))

    assert line.endswith("check the password in its URL")
    assert "hushhush" not in line
    assert terminal.run("doctor").returncode == 1


def test_a_frozen_redis_is_one_line_in_bounded_time(
    terminal: Terminal, redis_server: RedisServer
) -> None:
    terminal.environment["METAFLEET_BROKER_URL"] = redis_server.url
    redis_server.freeze()
    started_s = time.monotonic()

    line = terminal.fails("workers")

    assert "does not answer" in line
    assert time.monotonic() - started_s < 60


def test_a_wrong_database_url_and_a_wrong_file_are_one_line(terminal: Terminal) -> None:
    assert "wrong.toml does not exist" in terminal.fails("submit", "wrong.toml", "--in-process")

    terminal.environment["METAFLEET_DATABASE_URL"] = "sqlite:////proc/none/metafleet.db"
    line = terminal.fails("submit", str(terminal.tiny), "--in-process")
    assert "/proc/none" in line


def test_missing_data_are_one_line_that_says_how_to_get_them(terminal: Terminal) -> None:
    line = terminal.fails("submit", "omniglot-protonet", "--in-process")

    assert "metafleet data prepare omniglot" in line


def test_a_reader_that_goes_away_is_no_error_message(terminal: Terminal) -> None:
    shell = f"{sys.executable} -m metafleet.orchestrator --help | true"
    done = subprocess.run(
        ["sh", "-c", shell],
        check=False,
        cwd=ROOT,
        env=terminal.environment,
        capture_output=True,
        text=True,
    )

    assert done.stderr == ""
