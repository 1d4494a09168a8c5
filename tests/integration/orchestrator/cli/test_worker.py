"""`metafleet worker`: it works in any folder, restarts when it dies, and leaves after its job."""

import os
import signal
from pathlib import Path

import torch

from metafleet.contracts.connections import connect
from metafleet.contracts.presence import list_workers
from metafleet.contracts.settings import Settings
from tests.fleet import wait_until
from tests.integration.orchestrator.cli.terminal import Terminal
from tests.redis_server import RedisServer


def hide_ours(folder: Path) -> None:
    (folder / "metafleet").mkdir()
    (folder / "metafleet" / "__init__.py").write_text("raise RuntimeError('not the real one')")


def test_it_starts_next_to_a_folder_of_our_name_and_again_when_it_dies_and_stops_warm(
    terminal: Terminal, redis_server: RedisServer
) -> None:
    hide_ours(terminal.folder)
    terminal.environment["METAFLEET_BROKER_URL"] = redis_server.url
    process = terminal.start("worker", "--concurrency", "1", "--name", "mine")
    with connect(redis_server.url) as client:

        def pids() -> set[int]:
            return {w.pid for w in list_workers(client) if w.name.startswith("mine@")}

        wait_until(pids, "the worker", 60)
        (first,) = pids()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: pids() - {first}, "another process of the worker", 60)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)

        assert process.returncode == 0, said
        assert "the worker died (SIGKILL); starting it again" in said
        assert not pids(), "it said good-bye"


def test_a_worker_that_cannot_start_is_not_started_again(
    terminal: Terminal, redis_server: RedisServer
) -> None:
    assert not torch.cuda.is_available(), "this test is about a machine without one"
    terminal.environment["METAFLEET_BROKER_URL"] = redis_server.url

    done = terminal.run_process("worker", "--device", "cuda")

    assert done.returncode == 78
    assert "error: device 'cuda' was asked for" in done.stderr
    assert "starting it again" not in done.stderr


def test_without_redis_it_says_how_to_get_one(terminal: Terminal) -> None:
    assert Settings.load(terminal.environment).broker_url is None

    assert "no Redis is configured" in terminal.fails("worker")
