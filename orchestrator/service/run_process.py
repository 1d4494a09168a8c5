"""The server's side of a process that executes one run, or controls one sweep.

Importing torch takes seconds. The server therefore starts a process before there is a run for it.
If another server dies, the process that is already waiting can continue its run at once.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from metafleet.contracts.private_files import private_files
from metafleet.contracts.settings import Settings, make_folder, orchestrator_environment
from metafleet.db.records import RunRecord, SweepRecord
from metafleet.orchestrator.embedded.child import describe_exit, die_with_parent
from metafleet.orchestrator.embedded.commands import IMPORT_ROOT

EXECUTOR_MODULE = "metafleet.orchestrator.service.executor"


class RunProcess:
    """A process that executes one run or controls one sweep, in its own session. Not thread-safe.

    Args:
        settings: settings of the process, which do not change while it lives.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._logs_dir = settings.home / "logs"
        make_folder(self._logs_dir, "the folder of logs")
        self._run: RunRecord | None = None
        with private_files(), (self._logs_dir / "executor.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", EXECUTOR_MODULE],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=orchestrator_environment(settings),
                cwd=IMPORT_ROOT,
                start_new_session=True,  # Ctrl-C goes to the server, which then stops its children
                # safe: the server has one thread; without it, a SIGKILLed server would leave
                # unsupervised processes behind
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509 - one thread, see above
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def run(self) -> RunRecord:
        """The run that the process executes."""
        assert self._run is not None
        return self._run

    @property
    def log_path(self) -> Path:
        """Path of the run's log."""
        return self._logs_dir / f"run-{self.run.uid}.log"

    def begin(self, run: RunRecord) -> None:
        """Send the order to execute ``run``, whose record has the owner and epoch to use."""
        self._run = run
        self._send("run_id", run, self.log_path)

    def begin_sweep(self, sweep: SweepRecord) -> Path:
        """Send the order to control ``sweep``, and return the path of its log.

        The sweep's record has the owner and epoch to use.
        """
        log_path = self._logs_dir / f"sweep-{sweep.id}.log"
        self._send("sweep_id", sweep, log_path)
        return log_path

    def _send(self, key: str, record: RunRecord | SweepRecord, log_path: Path) -> None:
        order = {
            key: record.id,
            "epoch": record.epoch,
            "owner": record.owner,
            "log_path": str(log_path),
        }
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died at once; ``ended`` reports it
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()  # keep it open: its end means that the server has died

    def ended(self) -> str | None:
        """Describe how the process ended; None while it runs."""
        status = self._process.poll()
        return None if status is None else describe_exit(status)

    def terminate(self) -> None:
        """Ask the process to store a checkpoint and give its run back."""
        self._signal(signal.SIGTERM)

    def wait_or_kill(self, deadline: float) -> None:
        """Wait until ``deadline`` (monotonic seconds), then kill the process group."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self._signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def _signal(self, signum: int) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signum)
