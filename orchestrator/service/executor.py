"""A server's process for one run or sweep: ``python -m metafleet.orchestrator.service.executor``.

The first line of standard input is JSON that says which run to execute, or which sweep to control.
No further line follows. If the input ends, the server has died. This process writes the result to
the row of the run or sweep. The server and other processes read the result there. If this process
dies before it writes the result, the row still names the server as the owner.
"""

import json
import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from metafleet.contracts.logs import make_formatter
from metafleet.contracts.redaction import Redactor
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.db.repositories import RunQueue
from metafleet.errors import (
    BrokerUnavailableError,
    FencedError,
    MetafleetError,
    RunCancelledError,
)
from metafleet.orchestrator.reporting.line_observer import LineObserver
from metafleet.orchestrator.runs.launch import execute_run
from metafleet.orchestrator.runs.run_session import ExecutionOptions
from metafleet.orchestrator.runs.tenure import CancelRequest, Tenure
from metafleet.orchestrator.service.sweep_control import control_sweep
from metafleet.orchestrator.sweeps.pruning import pruned

log = logging.getLogger(__name__)


def main() -> None:
    """Wait for the order and execute it; return when the run's row has the result."""
    stop = _StopRequest()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop.on_signal)
    line = _read_line()
    if not line:
        return  # the process was not needed
    order = json.loads(line)
    settings = Settings.load()
    _write_to(order["log_path"], settings)
    threading.Thread(target=_die_with_server, name="server-watch", daemon=True).start()
    with Database.open(settings.database_url) as database:
        if "sweep_id" in order:
            control_sweep(database, settings, order, stop.is_made)
        else:
            _execute(database, settings, order, stop)


class _StopRequest:
    """Remembers a signal; an exception from its handler could interrupt an update."""

    def __init__(self) -> None:
        self._is_made = False

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Record the signal."""
        self._is_made = True

    def is_made(self) -> bool:
        """Return whether the server wants the run back."""
        return self._is_made


def _execute(
    database: Database, settings: Settings, order: dict[str, Any], stop: _StopRequest
) -> None:
    run_id, owner = int(order["run_id"]), str(order["owner"])
    redact = Redactor.of(settings)
    tenure = Tenure(
        owner=owner,
        epoch=int(order["epoch"]),
        after_interrupt=RunStatus.QUEUED,
        is_stopping=stop.is_made,
    )
    try:
        execute_run(
            database,
            settings,
            run_id,
            options=ExecutionOptions(in_process=False, tenure=tenure),
            observer=pruned(database, run_id, LineObserver()),
        )
    except CancelRequest as error:
        log.info("run=%d %s", run_id, error)  # its row says so
    except (FencedError, RunCancelledError) as error:
        log.info("run=%d %s", run_id, error)  # another process owns the row
    except (KeyboardInterrupt, BrokerUnavailableError) as error:
        # interrupted before the run began; later, ``execute_run`` gives it back itself
        with database.session() as session:
            RunQueue(session).give_back(run_id, owner=owner, error=redact(str(error)) or None)
    except MetafleetError as error:
        log.error("run=%d %s", run_id, error)
        with database.session() as session:
            RunQueue(session).fail(run_id, owner=owner, error=redact(str(error)))


def _read_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)  # unbuffered, so that the thread sees what follows
        if not byte:
            return b""
        line += byte
    return line


def _write_to(path: str, settings: Settings) -> None:
    """Send all output of this process to the run's own log."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    lines = logging.StreamHandler()
    lines.setFormatter(make_formatter(settings))
    logging.basicConfig(level=logging.INFO, handlers=[lines])


def _die_with_server() -> None:
    """Kill this process when the server dies, for systems where the kernel does not."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
