"""Reads fleet and runs again and again, whether or not Redis and the database answer."""

import math
import threading
import time
from dataclasses import dataclass, replace
from typing import Final

from metafleet.contracts.settings import Settings
from metafleet.db.connection import is_sqlite, parse_url, sqlite_path
from metafleet.db.engine import Database
from metafleet.errors import DatabaseError, MetafleetError
from metafleet.orchestrator.monitoring.fleet_reading import FleetReading, read_fleet
from metafleet.orchestrator.monitoring.runs_reading import RunsReading, read_runs

_HALF_LIFE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of fleet and runs.

    Attributes:
        fleet: the state of the fleet; None if Redis does not answer.
        fleet_problem: why there is none, in one line.
        runs: the state of the runs; None if the database does not answer.
        runs_problem: why there is none, in one line.
        smooth_demand: the open shards of all runs. It rises at once, and halves in a minute.
        read_s: seconds that reading took.
    """

    fleet: FleetReading | None = None
    fleet_problem: str = ""
    runs: RunsReading | None = None
    runs_problem: str = ""
    smooth_demand: float = 0.0
    read_s: float = 0.0


class Monitor:
    """Reads the state of fleet and runs. Thread-safe.

    Args:
        settings: locations of Redis and the database. A database is never created.
        fresh_s: readings that are younger than this are used again, so that many readers do not
            slow down the fleet.
    """

    def __init__(self, settings: Settings, *, fresh_s: float = 1.0) -> None:
        self._settings, self._fresh_s = settings, fresh_s
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._last, self._read_at_s = Snapshot(), float("-inf")

    def look(self) -> Snapshot:
        """Return the state, at most ``fresh_s`` old."""
        with self._lock:
            began_s = time.monotonic()
            if began_s - self._read_at_s >= self._fresh_s:
                found = self._with_runs(self._with_fleet(Snapshot()))
                smooth = self._smoothed(found, began_s - self._read_at_s)
                read_s = time.monotonic() - began_s
                self._last = replace(found, smooth_demand=smooth, read_s=read_s)
                self._read_at_s = began_s
            return self._last

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _with_fleet(self, found: Snapshot) -> Snapshot:
        try:
            return replace(found, fleet=read_fleet(self._settings))
        except MetafleetError as error:
            return replace(found, fleet_problem=str(error))

    def _with_runs(self, found: Snapshot) -> Snapshot:
        n_workers = len(found.fleet.alive) if found.fleet is not None else None
        try:
            if self._database is None:
                self._database = _open(self._settings.database_url)
            with self._database.session(read_only=True) as session:
                return replace(found, runs=read_runs(session, n_workers=n_workers))
        except MetafleetError as error:
            return replace(found, runs_problem=str(error))

    def _smoothed(self, found: Snapshot, since_s: float) -> float:
        if found.fleet is None:  # the demand is unknown: keep the last one
            return self._last.smooth_demand
        now, before = float(found.fleet.open_shards), self._last.smooth_demand
        share = math.pow(0.5, since_s / _HALF_LIFE_S)
        return max(now, now + (before - now) * share)


def _open(url: str) -> Database:
    """Open a database; unlike ``Database.open``, do not create one."""
    parsed = parse_url(url)
    if is_sqlite(parsed) and not sqlite_path(parsed).exists():
        raise DatabaseError(f"no database at {sqlite_path(parsed)} yet; the first run creates it")
    return Database.open(url)
