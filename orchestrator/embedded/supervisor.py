"""The process that owns a stack: it starts the stack's processes, restarts them and stops them.

It runs as ``python -m metafleet.orchestrator.embedded.supervisor``. The first line of its standard
input is JSON that describes the stack. No further line follows. When the input ends, the supervisor
stops the stack. Each line that it writes to standard output is one event, as JSON.
"""

import json
import os
import secrets
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from metafleet.contracts.connections import connect, redis_errors
from metafleet.contracts.settings import Settings
from metafleet.errors import FleetError, MetafleetError
from metafleet.orchestrator.embedded import commands
from metafleet.orchestrator.embedded.child import Child
from metafleet.orchestrator.embedded.server_binary import find_server
from metafleet.orchestrator.embedded.stack_file import write_stack_file

_TICK_S = 0.2
_WORKER_GRACE_S = 8.0
_SERVER_GRACE_S = 3.0
_SERVER_START_S = 10.0
_PORT_ATTEMPTS = 5


class OwnerGoneError(Exception):
    """The owner no longer reads the events."""


class Supervisor:
    """One stack's processes.

    Args:
        settings: locations of METAFLEET_HOME and of the data. The stack's own broker and signing
            key replace those of the settings.
        order: ``n_workers``, ``logs_dir``, ``stack_file`` and ``flower``. If ``stack_file`` is
            None, other terminals cannot find the stack.
    """

    def __init__(self, settings: Settings, order: Mapping[str, Any]) -> None:
        self._base = settings
        self._order = order
        self._logs_dir = Path(order["logs_dir"])
        self._stack_file = Path(order["stack_file"]) if order["stack_file"] else None
        self._owns_stack_file = False
        self._secrets = commands.StackSecrets(
            secrets.token_urlsafe(24), secrets.token_urlsafe(32), secrets.token_urlsafe(12)
        )
        self._server: Child | None = None
        self._clients: list[Child] = []
        self._is_stopping = False

    def run(self) -> None:
        """Start the stack, supervise it until asked to stop, and stop it in any case."""
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._on_signal)
        try:
            self._start()
            while not self._is_stopping and not _input_ended(_TICK_S):
                self._tick()
        except OwnerGoneError:
            pass  # only stopping is left to do
        except MetafleetError as error:
            _emit_last({"event": "failed", "text": str(error)})
        finally:
            self._stop()
            _emit_last({"event": "stopped", "is_asked": self._is_stopping})

    def _on_signal(self, signum: int, frame: object) -> None:
        self._is_stopping = True

    def _start(self) -> None:
        settings = self._start_server()
        n_workers = self._order["n_workers"]
        specs = [
            commands.worker_spec(index, settings, self._logs_dir)
            for index in range(1, n_workers + 1)
        ]
        flower_url = None
        if self._order["flower"]:
            port = _free_port()
            specs.append(
                commands.flower_spec(
                    settings, port=port, secrets=self._secrets, logs_dir=self._logs_dir
                )
            )
            flower_url = f"http://{commands.HOST}:{port}"
        for spec in specs:
            child = Child(spec)
            child.start()
            self._clients.append(child)
        self._announce(settings, flower_url)

    def _start_server(self) -> Settings:
        binary = find_server()
        for _ in range(_PORT_ATTEMPTS):  # another process may take the free port first
            port = _free_port()
            settings = commands.stack_settings(self._base, port, self._secrets)
            spec = commands.server_spec(
                binary,
                settings,
                port=port,
                password=self._secrets.password,
                logs_dir=self._logs_dir,
            )
            self._server = Child(spec)
            self._server.start()
            if self._server_answers(settings):
                return settings
        raise FleetError(
            f"{binary.path} {binary.version} did not start; see {self._logs_dir / 'redis.log'}"
        )

    def _server_answers(self, settings: Settings) -> bool:
        assert self._server is not None and settings.broker_url is not None
        client = connect(settings.broker_url, socket_timeout_s=1.0)
        deadline = time.monotonic() + _SERVER_START_S
        while time.monotonic() < deadline and not self._is_stopping:
            if self._server.tick() is not None:
                return False
            try:
                with redis_errors(settings.broker_url):
                    client.ping()
            except MetafleetError:
                time.sleep(0.02)
                continue
            return True
        return False

    def _announce(self, settings: Settings, flower_url: str | None) -> None:
        addresses = {
            "broker_url": settings.broker_url,
            "blobs_url": settings.blobs_url,
            "signing_key": settings.signing_key,
        }
        if self._stack_file is not None:
            identity = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "n_workers": self._order["n_workers"],
                "flower_url": flower_url,
            }
            write_stack_file(self._stack_file, addresses | identity)
            self._owns_stack_file = True
        flower = {"flower_url": flower_url, "flower_password": self._secrets.flower_password}
        _emit({"event": "ready", **addresses, **(flower if flower_url else {})})

    def _tick(self) -> None:
        for child in self._children():
            notice = child.tick()
            if notice is not None:
                _emit({"event": "notice", "text": notice})

    def _children(self) -> list[Child]:
        return [*self._clients, *([self._server] if self._server else [])]

    def _stop(self) -> None:
        if self._stack_file is not None and self._owns_stack_file:
            self._stack_file.unlink(missing_ok=True)
        # the server stops last: workers sign off through it
        for children, grace_s in (
            (self._clients, _WORKER_GRACE_S),
            ([self._server] if self._server else [], _SERVER_GRACE_S),
        ):
            for child in children:
                child.terminate()
            deadline = time.monotonic() + grace_s
            for child in children:
                child.wait_or_kill(deadline)
        _sweep_heartbeats(self._base.heartbeat_dir)


def _sweep_heartbeats(folder: Path) -> None:
    """Delete the heartbeat files, NAME@HOST-PID, of killed workers of this host."""
    for path in folder.glob(f"*@{socket.gethostname()}-*"):
        pid = path.name.rpartition("-")[2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            with suppress(OSError):
                path.unlink()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((commands.HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _input_ended(timeout_s: float) -> bool:
    """Return whether the owner has closed its end; ignore what it writes after the order."""
    readable, _, _ = select.select([sys.stdin.fileno()], [], [], timeout_s)
    return bool(readable) and not os.read(sys.stdin.fileno(), 4096)


def _emit(event: Mapping[str, Any]) -> None:
    try:
        os.write(sys.stdout.fileno(), json.dumps(event).encode() + b"\n")
    except OSError as error:
        raise OwnerGoneError from error


def _emit_last(event: Mapping[str, Any]) -> None:
    try:
        _emit(event)
    except OwnerGoneError:
        return  # no reader is left


def _read_order() -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)  # unbuffered, so that select sees what follows
        if not byte:
            raise SystemExit("the supervisor reads its order from standard input; use `up`")
        line += byte
    order: dict[str, Any] = json.loads(line)
    return order


def main() -> None:
    """Read the order and execute it."""
    Supervisor(Settings.load(), _read_order()).run()


if __name__ == "__main__":
    main()
