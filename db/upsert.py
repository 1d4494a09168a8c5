"""INSERT ... ON CONFLICT, for the two databases we support."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite

Row = dict[str, Any]


def upsert(
    session: Connection,
    table: Table,
    rows: Sequence[Row],
    *,
    keys: Sequence[str] = (),
    overwrite: bool = True,
    keep: Collection[str] = (),
) -> None:
    """Insert ``rows``. If a key exists already, replace its other columns.

    Args:
        session: the caller's transaction; nothing is committed.
        table: the table.
        rows: one dict of all columns for each row. If two rows have the same key, the last is used.
        keys: columns of the unique key; by default, the columns of the primary key.
        overwrite: whether to replace existing rows; if False, they stay unchanged.
        keep: columns that a replacement does not change, for example ``created_at``.
    """
    if not rows:
        return
    dialect = session.dialect.name
    insert = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    keys = keys or [column.name for column in table.primary_key]
    if overwrite:
        replaced = {
            column.name: insert.excluded[column.name]
            for column in table.columns
            if column.name not in keys and column.name not in keep
        }
        statement = insert.on_conflict_do_update(index_elements=keys, set_=replaced)
    else:
        statement = insert.on_conflict_do_nothing(index_elements=keys)
    session.execute(statement, list(rows))


def skip_ids_in_use(session: Connection, table: Table) -> None:
    """Make the next generated id of ``table`` a free one, after an insert with an explicit id."""
    if session.dialect.name == "postgresql":  # SQLite uses the largest id plus one
        sequence = func.pg_get_serial_sequence(table.name, "id")
        session.execute(
            select(func.setval(sequence, select(func.max(table.c.id)).scalar_subquery()))
        )
