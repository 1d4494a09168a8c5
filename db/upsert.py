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
    """Insert ``rows``; where the key is there already, replace the other columns.

    Args:
        session: the caller's transaction; nothing is committed.
        table: where.
        rows: one dict of all columns for each row; a key may come twice, the last one wins.
        keys: columns of the unique key; default: the primary key.
        overwrite: False leaves rows that are there as they are.
        keep: columns that a replacement leaves alone, such as ``created_at``.
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
    """Have the next generated id of ``table`` be a free one, after a row was given its own."""
    if session.dialect.name == "postgresql":  # SQLite takes the largest plus one
        sequence = func.pg_get_serial_sequence(table.name, "id")
        session.execute(
            select(func.setval(sequence, select(func.max(table.c.id)).scalar_subquery()))
        )
