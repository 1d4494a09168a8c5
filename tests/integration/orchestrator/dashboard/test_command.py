import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metafleet.orchestrator.dashboard.serving import Address
from tests.certificates import make_certificate
from tests.fleet import wait_until
from tests.integration.orchestrator.conftest import Command, command, home
from tests.paths import REPOSITORY

__all__ = ["command", "home"]


@contextmanager
def started(*arguments: str, home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a command, and yield it with the URL that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "metafleet.orchestrator", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "METAFLEET_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            found = re.search(r"dashboard: (\S+/)", line)
            if found:
                yield process, found[1]
                return
        raise AssertionError(f"no URL: {lines}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


@pytest.mark.parametrize(("signal_number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once_while_a_browser_listens(
    home: Path, signal_number: int, status: int
) -> None:
    with started("dashboard", "--port", "0", home=home) as (process, url):
        with urllib.request.urlopen(f"{url}events", timeout=10) as stream:
            assert stream.readline() == b"retry: 1000\n"
            process.send_signal(signal_number)
            # a stream that the server had cut off would raise IncompleteRead
            assert b"event: hello" in stream.read()
        assert process.wait(10) == status
        assert process.stdout is not None
        assert process.stdout.read().strip() == "interrupted"


def test_other_machines_need_a_password(command: Command) -> None:
    status, _, errors = command("dashboard", "--host", "0.0.0.0")
    assert status == 1
    assert errors == (
        "error: --host 0.0.0.0 lets other machines reach the dashboard, which has no password; "
        "set METAFLEET_DASHBOARD_PASSWORD, or leave out --host\n"
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--port", "70000"), "70000 is not in the range"),
        (("--cert-key", "key.pem"), "--cert-key goes with --cert"),
        (("--cert", "nothing.pem"), "--cert nothing.pem cannot be used"),
    ],
)
def test_wrong_options_are_one_line(
    command: Command, arguments: tuple[str, ...], expected: str
) -> None:
    status, _, errors = command("dashboard", *arguments)
    assert status in (1, 2)
    assert expected in errors
    assert errors.count("\n") == 1


def test_a_port_in_use_is_one_line(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, errors = command("dashboard", "--port", str(port))
        with Address(port=port, is_fixed=False).listen() as other:
            assert other.getsockname()[1] != port
    assert status == 1
    assert f"cannot listen at 127.0.0.1:{port} (address already in use)" in errors


def test_it_serves_https_with_a_certificate(home: Path, tmp_path: Path) -> None:
    files = make_certificate(tmp_path)
    options = ("--cert", files.cert, "--cert-key", files.key)
    trusted = ssl.create_default_context(cafile=files.ca)
    with (
        started("dashboard", "--port", "0", *options, home=home) as (_, url),
        urllib.request.urlopen(url, timeout=10, context=trusted) as answer,
    ):
        assert answer.status == 200
    assert url.startswith("https://127.0.0.1:")


def test_up_serves_it_too(home: Path) -> None:
    with started("up", "--workers", "0", "--dashboard", home=home) as (process, url):
        wait_until(lambda: "0 workers" in read(url), "the dashboard finds the stack's Redis")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
