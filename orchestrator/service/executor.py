"""What a server starts for each run; its arguments are run id, epoch, owner and the server's pid.

It writes what becomes of the run into the run's row, where the server and everybody else reads
it. When it dies without a word, the row still says that the server has the run.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Final

from contracts.settings import Settings
from db.engine import Database
from db.records import RunStatus
from db.repositories import RunQueue
from metafleet.errors import (
    BrokerUnavailableError,
    FencedError,
    MetafleetError,
    RunCancelledError,
)
from orchestrator.cli.progress import LineObserver
from orchestrator.launch import execute_run
from orchestrator.tenure import Tenure

log = logging.getLogger(__name__)

_ORPHAN_LOOK_S: Final = 1.0


def main(arguments: Sequence[str]) -> int:
    """Execute the run; exit status 0 when its row says what became of it."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run_id, epoch, owner, parent = (int(arguments[0]), int(arguments[1]), *arguments[2:4])
    threading.Thread(target=_die_with, args=(int(parent),), daemon=True).start()
    settings = Settings.load()
    with Database.open(settings.database_url) as database:
        return _execute(database, settings, run_id, epoch=epoch, owner=owner)


def _execute(database: Database, settings: Settings, run_id: int, *, epoch: int, owner: str) -> int:
    tenure = Tenure(owner=owner, epoch=epoch, after_interrupt=RunStatus.QUEUED)
    try:
        execute_run(
            *(database, settings, run_id), in_process=False, observer=LineObserver(), tenure=tenure
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
    return 0


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _die_with(parent: int) -> None:
    """End when the server is gone, where the kernel does not see to it."""
    while os.getppid() == parent:
        time.sleep(_ORPHAN_LOOK_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
