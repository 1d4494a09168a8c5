"""Converts records to rows and back. A record's fields are named like the columns."""

from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, Table, select

from metafleet.db.upsert import Row

R = TypeVar("R")


def to_row(record: Any) -> Row:
    """Return a record as a row."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def select_fields(table: Table, record_type: type[Any]) -> Select[Any]:
    """Select the columns of a record, in the order of its fields."""
    return select(*(table.columns[field.name] for field in fields(record_type)))


def read(session: Connection, record_type: type[R], query: Select[Any]) -> tuple[R, ...]:
    """Run a query and return a record for each row."""
    return tuple(to_record(record_type, row) for row in session.execute(query))


def to_record(record_type: type[R], row: Any) -> R:
    """Make a record from a selected row."""
    return record_type(**row._mapping)
