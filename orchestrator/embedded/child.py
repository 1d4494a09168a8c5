"""One supervised process: own session, restarts with backoff, killed with its whole group."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STEADY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to run.

    Attributes:
        label: name of the process in messages.
        argv: the command and its arguments. They must not contain secrets, because every user of
            the machine can list them.
        environment: the process's whole environment.
        log_path: file to which the process's output is written. If None, the process writes to the
            output of this process.
        folder: the process's working directory.
        stdin: bytes that are written to the process's standard input, which is then closed.
    """

    label: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    log_path: Path | None
    folder: Path
    stdin: bytes = field(default=b"", repr=False)


class Child:
    """Keeps one process running. Not thread-safe: one supervisor's loop owns it."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._deaths = 0
        self._due_at: float | None = None
        self.last_status: int | None = None
        """Exit status of the last process; negative: the signal that killed it."""

    @property
    def pid(self) -> int | None:
        """The process id; None while the process is down."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process; append to its log."""
        with ExitStack() as stack:
            path = self.spec.log_path
            log = stack.enter_context(path.open("ab")) if path is not None else None
            self._process = subprocess.Popen(
                self.spec.argv,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT if log is not None else None,
                env=self.spec.environment,
                cwd=self.spec.folder,
                start_new_session=True,
                # safe: the supervisor has one thread; without it a SIGKILLed supervisor would
                # leave its children behind
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509 - one thread, see above
            )
        self._started_at = time.monotonic()
        self._due_at = None
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # it died at once; ``tick`` reports it
                self._process.stdin.write(self.spec.stdin)
                self._process.stdin.close()

    def tick(self) -> str | None:
        """Detect a death, and restart when due; return a notice for users, if any."""
        now = time.monotonic()
        if self._process is None:
            if self._due_at is not None and now >= self._due_at:
                self.start()
            return None
        status = self._process.poll()
        if status is None:
            return None
        self._signal_group(signal.SIGKILL)
        self._process, self.last_status = None, status
        self._deaths = 1 if now - self._started_at >= _STEADY_AFTER_S else self._deaths + 1
        delay_s = _BACKOFF_S[min(self._deaths, len(_BACKOFF_S)) - 1]
        self._due_at = now + delay_s
        where = f", log: {self.spec.log_path}" if self.spec.log_path is not None else ""
        return (
            f"{self.spec.label} died ({describe_exit(status)}); starting it again in "
            f"{delay_s:g} s{where}"
        )

    def terminate(self) -> None:
        """Send SIGTERM to the process group, and do not restart it."""
        self._due_at = None
        self._signal_group(signal.SIGTERM)

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the process alone, which stops its children; do not restart it."""
        self._due_at = None
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int | None:
        """Wait for the process to end; return its exit status, or None if none runs."""
        return self._process.wait() if self._process is not None else None

    def wait_or_kill(self, deadline: float) -> None:
        """Wait until ``deadline`` (monotonic seconds), then kill the rest of its group."""
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _signal_group(self, signum: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for zombies
                os.killpg(self._process.pid, signum)


def describe_exit(status: int) -> str:
    """Describe how a process ended: its exit status, or the signal's name."""
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


def die_with_parent(parent: int) -> Callable[[], None] | None:
    """Return a function that makes a child process die when ``parent`` dies.

    Return None on systems where this is impossible. The returned function is passed to subprocess
    as ``preexec_fn``. The process that starts the child must have only one thread.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)  # loaded before the fork, where loading is safe

    def in_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before prctl
            os._exit(1)

    return in_child
