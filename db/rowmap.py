"""Records to rows and back: the fields of a record are the names of the columns."""

from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Select, Table, select

from metafleet.db.upsert import Row

R = TypeVar("R")


def to_row(run_id: int, record: Any) -> Row:
    """Spread a frozen record over the columns of its table."""
    row: Row = {name: getattr(record, name) for name in record.__slots__}
    row["run_id"] = run_id
    return row


def select_fields(table: Table, record_type: type[Any]) -> Select[Any]:
    """Select the columns a record needs, in the order of its fields."""
    return select(*(table.columns[field.name] for field in fields(record_type)))


def to_record(record_type: type[R], row: Any) -> R:
    """Make a record of one selected row."""
    return record_type(**row._mapping)
