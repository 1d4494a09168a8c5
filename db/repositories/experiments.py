"""Experiments: names that group runs."""

from typing import Any

from sqlalchemy import Connection, Select

from metafleet.db.records import EXPERIMENTS, NAME_LENGTH, ExperimentRecord, utc_now
from metafleet.db.rowmap import read, select_fields
from metafleet.db.upsert import upsert
from metafleet.errors import ConfigError


class ExperimentRepository:
    """Experiments. The caller owns the transaction."""

    def __init__(self, session: Connection) -> None:
        self._session = session

    def get_or_add(self, name: str) -> ExperimentRecord:
        """Return the experiment of this name; create it if it is new.

        Raises:
            ConfigError: the name is empty or too long.
        """
        check_name(name, "experiment")
        row = {"name": name, "created_at": utc_now()}
        upsert(self._session, EXPERIMENTS, [row], keys=["name"], overwrite=False)
        return read(self._session, ExperimentRecord, _select(name))[0]

    def find(self, name: str) -> ExperimentRecord | None:
        """Return the experiment of this name, or None."""
        return next(iter(read(self._session, ExperimentRecord, _select(name))), None)

    def list(self) -> tuple[ExperimentRecord, ...]:
        """Return all experiments by name."""
        query = select_fields(EXPERIMENTS, ExperimentRecord).order_by(EXPERIMENTS.c.name)
        return read(self._session, ExperimentRecord, query)


def check_name(name: str, what: str) -> None:
    """Refuse a name that the database would have to cut, and so could confuse with another."""
    if not name.strip() or len(name) > NAME_LENGTH or "\0" in name:
        raise ConfigError(
            f"{what} name {name[:40]!r} has {len(name)} characters; "
            f"expected 1 to {NAME_LENGTH} characters, not all blank"
        )


def _select(name: str) -> Select[Any]:
    return select_fields(EXPERIMENTS, ExperimentRecord).where(EXPERIMENTS.c.name == name)
