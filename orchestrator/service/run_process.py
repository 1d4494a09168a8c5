"""The process that executes one run for a server."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from contracts.settings import Settings, orchestrator_environment
from db.records import RunRecord
from orchestrator.embedded.child import describe_exit, die_with_parent
from orchestrator.embedded.commands import IMPORT_ROOT

EXECUTOR_MODULE = "orchestrator.service.executor"


class RunProcess:
    """One execution of one run, in its own session. Not thread-safe.

    Args:
        run: as it was taken: owned, and at the epoch that the process may use.
        settings: where everything is.
    """

    def __init__(self, run: RunRecord, settings: Settings) -> None:
        self.run = run
        self.log_path = self._log_path(settings)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", EXECUTOR_MODULE),
                    *(str(run.id), str(run.epoch), str(run.owner), str(os.getpid())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=orchestrator_environment(settings),
                cwd=IMPORT_ROOT,
                start_new_session=True,  # Ctrl-C is for the server, which then asks its children
                # safe: the server has one thread; without it a SIGKILLed server would leave runs
                # behind that nobody watches
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509 - one thread, see above
            )

    def ended(self) -> str | None:
        """Say how the process ended; None while it runs."""
        status = self._process.poll()
        return None if status is None else describe_exit(status)

    def terminate(self) -> None:
        """Ask the process to checkpoint and give its run back."""
        self._signal(signal.SIGTERM)

    def wait_or_kill(self, deadline: float) -> None:
        """Wait until ``deadline`` (monotonic seconds), then kill what is left of it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, signum: int) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signum)

    def _log_path(self, settings: Settings) -> Path:
        folder = settings.home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"run-{self.run.uid}.log"
