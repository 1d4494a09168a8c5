"""What a server starts to execute one run: ``python -m metafleet.orchestrator.service.executor``.

The first line of standard input is the order, as JSON; then it stays silent, and its end means that
the server is gone. What becomes of the run is written into the run's row, where the server and
everybody else reads it. When this process dies without a word, the row still says that the server
has the run.
"""

import json
import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

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
from metafleet.orchestrator.runs.tenure import Tenure

log = logging.getLogger(__name__)


def main() -> None:
    """Wait for the order and execute it; returns when the run's row says what became of it."""
    stop = _StopRequest()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop.on_signal)
    line = _read_line()
    if not line:
        return  # never needed
    order = json.loads(line)
    _write_to(order["log_path"])
    threading.Thread(target=_die_with_server, name="server-watch", daemon=True).start()
    settings = Settings.load()
    with Database.open(settings.database_url) as database:
        _execute(database, settings, order, stop)


class _StopRequest:
    """Remembers a signal; an exception from its handler could come in the midst of an update."""

    def __init__(self) -> None:
        self._is_made = False

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Take note."""
        self._is_made = True

    def is_made(self) -> bool:
        """Claim that the server wants the run back."""
        return self._is_made


def _execute(
    database: Database, settings: Settings, order: dict[str, Any], stop: _StopRequest
) -> None:
    run_id, owner = int(order["run_id"]), str(order["owner"])
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
            observer=LineObserver(),
        )
    except (FencedError, RunCancelledError) as error:
        log.info("run=%d %s", run_id, error)  # the row is somebody else's
    except (KeyboardInterrupt, BrokerUnavailableError) as error:
        # before it began; later on ``execute_run`` has given it back already
        with database.session() as session:
            RunQueue(session).give_back(run_id, owner=owner, error=str(error) or None)
    except MetafleetError as error:
        log.error("run=%d %s", run_id, error)
        with database.session() as session:
            RunQueue(session).fail(run_id, owner=owner, error=str(error))


def _read_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)  # unbuffered: the thread sees what follows
        if not byte:
            return b""
        line += byte
    return line


def _write_to(path: str) -> None:
    """Send all output of this process to the run's own log."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def _die_with_server() -> None:
    """End when the server is gone, where the kernel does not see to it."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
