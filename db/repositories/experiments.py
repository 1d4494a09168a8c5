"""Experiments: names that group runs."""

from typing import Any

from sqlalchemy import Select
from sqlalchemy.orm import Session

from metafleet.db.models import NAME_LENGTH, Experiment
from metafleet.db.records import ExperimentRecord, utc_now
from metafleet.db.rowmap import select_fields, to_record
from metafleet.db.upsert import upsert
from metafleet.errors import ConfigError

_TABLE = Experiment.metadata.tables["experiments"]


class ExperimentRepository:
    """Experiments. Flushes only: the caller owns the transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_or_add(self, name: str) -> ExperimentRecord:
        """Return the experiment of this name, made when it is new.

        Raises:
            ConfigError: the name is empty or too long.
        """
        check_name(name, "experiment")
        row = {"name": name, "created_at": utc_now()}
        upsert(self._session, _TABLE, [row], keys=["name"], overwrite=False)
        return to_record(ExperimentRecord, self._session.execute(_select(name)).one())

    def find(self, name: str) -> ExperimentRecord | None:
        """Return the experiment of this name, or None."""
        row = self._session.execute(_select(name)).one_or_none()
        return None if row is None else to_record(ExperimentRecord, row)

    def list(self) -> tuple[ExperimentRecord, ...]:
        """Return all experiments by name."""
        rows = self._session.execute(
            select_fields(_TABLE, ExperimentRecord).order_by(_TABLE.c.name)
        )
        return tuple(to_record(ExperimentRecord, row) for row in rows)


def check_name(name: str, what: str) -> None:
    """Refuse a name the database cannot keep: it would be cut, and then stand for another."""
    if not name.strip() or len(name) > NAME_LENGTH or "\0" in name:
        raise ConfigError(
            f"{what} name {name[:40]!r} has {len(name)} characters; "
            f"expected 1 to {NAME_LENGTH} characters, not all blank"
        )


def _select(name: str) -> Select[Any]:
    return select_fields(_TABLE, ExperimentRecord).where(_TABLE.c.name == name)
