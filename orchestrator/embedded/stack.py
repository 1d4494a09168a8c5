"""The owner's side of an embedded stack: starts it, receives its events, stops it."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from metafleet.contracts.private_files import private_files
from metafleet.contracts.settings import Settings, child_environment, make_folder
from metafleet.errors import FleetError
from metafleet.orchestrator.embedded.commands import IMPORT_ROOT
from metafleet.orchestrator.embedded.stack_file import SUPERVISOR_MODULE, require_no_stack

_STOP_WITHIN_S = 20.0
Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StackOrder:
    """Describes the stack to start.

    Attributes:
        n_workers: CPU worker processes, >= 0.
        logs_dir: folder for the logs. Each process has its own log.
        is_public: whether to write the stack file, by which commands in other terminals find the
            stack.
        flower: whether to run Flower too.
    """

    n_workers: int
    logs_dir: Path
    is_public: bool
    flower: bool = False


class EmbeddedStack:
    """A running stack. As a context manager, it stops all its processes on exit.

    Args:
        settings: locations of METAFLEET_HOME and of the data.
        order: what to start.
        notify: receives notices for users, e.g. that a worker died. It is called from another
            thread.

    Attributes:
        was_told_to_stop: whether a signal to the supervisor ended the stack.
    """

    def __init__(self, settings: Settings, order: StackOrder, notify: Notify) -> None:
        self.was_told_to_stop = False
        self._base = settings
        self._order = order
        self._notify = notify
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._settled = threading.Event()
        self._ended = threading.Event()
        self._ready: dict[str, Any] = {}
        self._failure = "the stack's supervisor ended before it was ready"
        self._is_stopping = False

    @property
    def settings(self) -> Settings:
        """Settings with the addresses and key of this stack."""
        return replace(
            self._base,
            broker_url=self._ready["broker_url"],
            blobs_url=self._ready["blobs_url"],
            signing_key=self._ready["signing_key"],
        )

    @property
    def flower(self) -> tuple[str, str] | None:
        """Flower's URL and password; None without Flower."""
        url = self._ready.get("flower_url")
        return (url, self._ready["flower_password"]) if url else None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def _start(self) -> None:
        make_folder(self._base.home, "the folder")
        make_folder(self._order.logs_dir, "the folder of logs")
        stack_file = self._base.stack_file if self._order.is_public else None
        if stack_file is not None:
            require_no_stack(stack_file)
        order = {
            "n_workers": self._order.n_workers,
            "logs_dir": str(self._order.logs_dir),
            "stack_file": str(stack_file) if stack_file else None,
            "flower": self._order.flower,
        }
        log_path = self._order.logs_dir / "supervisor.log"
        with private_files(), log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", SUPERVISOR_MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=child_environment(self._base),
                cwd=IMPORT_ROOT,
                start_new_session=True,  # Ctrl-C goes to the owner, which then stops the stack
            )
        self._reader = threading.Thread(target=self._read_events, daemon=True, name="stack-events")
        self._reader.start()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has already ended; the reader notices
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        self._settled.wait()
        if not self._ready:
            raise FleetError(f"{self._failure} (log: {log_path})")

    def _read_events(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                self._ready = event
                self._settled.set()
            elif event["event"] == "failed":
                self._failure = event["text"]
                if self._ready:
                    self._notify(self._failure)
            elif event["event"] == "stopped":
                self.was_told_to_stop = event["is_asked"]
            elif event["event"] == "notice" and not self._is_stopping:
                self._notify(event["text"])
        self._ended.set()
        self._settled.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the supervisor to end; return whether it has."""
        return self._ended.wait(timeout_s)

    def _stop(self) -> None:
        self._is_stopping = True
        process = self._process
        if process is None or process.stdin is None:
            return
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_WITHIN_S)
        finally:  # timed out or interrupted again; on Linux its children die with it
            process.kill()
            process.wait()
            if self._reader is not None:
                self._reader.join(1.0)
