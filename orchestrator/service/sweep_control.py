"""Controls one sweep in a process of a server."""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.db.repositories import SweepQueue, SweepRepository
from metafleet.errors import (
    BrokerUnavailableError,
    DatabaseUnavailableError,
    FencedError,
    MetafleetError,
)
from metafleet.orchestrator.reporting.line_observer import LineObserver
from metafleet.orchestrator.sweeps.choice import judge_best
from metafleet.orchestrator.sweeps.conducting import leave_to_servers
from metafleet.orchestrator.sweeps.sweep import Sweep
from metafleet.orchestrator.sweeps.trial import Trial

log = logging.getLogger(__name__)

_AWAY_S: Final = 2.0


def control_sweep(
    database: Database,
    settings: Settings,
    order: dict[str, Any],
    is_stopping: Callable[[], bool],
) -> None:
    """Queue the trials of a sweep until all have ended, test the best one, and record the result.

    Args:
        database: an open database.
        settings: locations of the broker, the data and the checkpoints.
        order: the sweep's id, and the owner and epoch under which the server took it.
        is_stopping: returns whether the server wants the sweep back.
    """
    sweep_id, owner, epoch = int(order["sweep_id"]), str(order["owner"]), int(order["epoch"])
    with database.session(read_only=True) as session:
        record = SweepRepository(session).get(sweep_id)
    if record.epoch != epoch:
        log.info("sweep=%d was taken over", sweep_id)
        return

    def pause(seconds: float) -> None:
        time.sleep(seconds)
        if is_stopping():
            raise KeyboardInterrupt

    try:
        _control(database, settings, Sweep.of_record(database, settings, record), pause)
    except FencedError as error:
        log.info("sweep=%d %s", sweep_id, error)
    except (KeyboardInterrupt, BrokerUnavailableError) as error:
        with database.session() as session:
            SweepQueue(session).give_back(
                sweep_id, owner=owner, epoch=epoch, error=str(error) or None
            )
    except MetafleetError as error:
        log.error("sweep=%d %s", sweep_id, error)
        with database.session() as session:
            SweepQueue(session).fail(sweep_id, owner=owner, epoch=epoch, error=str(error))


def _control(
    database: Database, settings: Settings, sweep: Sweep, pause: Callable[[float], None]
) -> None:
    while True:
        try:
            leave_to_servers(database, sweep, show=_log_ended, pause=pause)
            judge_best(
                database,
                settings,
                sweep.plan,
                sweep.trials(),
                in_process=False,
                observer=LineObserver(),
            )
            sweep.mark(RunStatus.FINISHED)
            return
        except DatabaseUnavailableError as error:  # another server may take over
            log.warning("sweep=%d waits: %s", sweep.record.id, error)
            pause(_AWAY_S)


def _log_ended(trial: Trial) -> None:
    log.info("trial %d is %s: %s", trial.number, trial.status, trial.values)
