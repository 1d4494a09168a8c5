"""Makes the table of a record: its fields are the columns, their annotations the types."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    Table,
)
from sqlalchemy.schema import SchemaItem

from metafleet.db.types import Indices, Real, UtcDateTime

METADATA: Final = MetaData(
    naming_convention={  # so that constraints have the same names on every database
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_TYPES: Final[Mapping[Any, Any]] = {
    int: Integer,
    bool: Boolean,
    float: Double,
    datetime: UtcDateTime,
    tuple: Indices,
    Mapping: JSON(none_as_null=True),
}


def table_of(
    name: str,
    record: type[Any],
    *others: Column[Any] | SchemaItem,
    key: tuple[str, ...],
    without: tuple[str, ...] = (),
) -> Table:
    """Make the table that stores records of a type.

    A field's type determines the type of its column. ``_TYPES`` maps the simple types; other fields
    are ``Annotated`` with a type from SQLAlchemy or ``db.types``. If a field may be None, its
    column may be NULL. The default of a field is also the default of its column.

    Args:
        name: the table's name.
        record: the type of the records, a frozen dataclass.
        others: further columns, constraints and indices.
        key: names of the fields that form the primary key.
        without: names of fields that are not columns of this table.
    """
    hints = get_type_hints(record, include_extras=True)
    columns = [
        _column(field.name, hints[field.name], default=field.default, is_key=field.name in key)
        for field in fields(record)
        if field.name not in without
    ]
    return Table(name, METADATA, *columns, *others)


def table_of_run(name: str, record: type[Any], *, key: tuple[str, ...]) -> Table:
    """Make a table of rows that belong to a run; ``run_id`` is part of its primary key."""
    run_id: Column[int] = Column("run_id", Integer, ForeignKey("runs.id"), primary_key=True)
    return table_of(name, record, run_id, key=key)


def _column(name: str, hint: Any, *, default: Any, is_key: bool) -> Column[Any]:
    may_be_null = get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)
    if may_be_null:
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    annotated = getattr(hint, "__metadata__", ())
    kind = annotated[0] if annotated else _TYPES[get_origin(hint) or hint]
    return Column(
        name,
        kind,
        primary_key=is_key,
        nullable=may_be_null or kind is Real,  # NULL stands for NaN
        default=None if default is MISSING else default,
    )
