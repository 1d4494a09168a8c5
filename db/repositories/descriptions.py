"""Descriptions of data sets."""

from sqlalchemy import Connection

from metafleet.db.records import DATA_DESCRIPTIONS, DescriptionRecord
from metafleet.db.rowmap import read, select_fields, to_row
from metafleet.db.upsert import upsert


class DescriptionRepository:
    """Descriptions, one for each digest and version. The caller owns the transaction."""

    def __init__(self, session: Connection) -> None:
        self._session = session

    def put(self, record: DescriptionRecord) -> None:
        """Add a description, or replace that of the same digest and version."""
        upsert(self._session, DATA_DESCRIPTIONS, [to_row(record)], keep=["created_at"])

    def list(self, *, version: int) -> tuple[DescriptionRecord, ...]:
        """Return all descriptions of a version, in the order of their names."""
        columns = DATA_DESCRIPTIONS.c
        query = select_fields(DATA_DESCRIPTIONS, DescriptionRecord).where(
            columns.version == version
        )
        return read(
            self._session, DescriptionRecord, query.order_by(columns.name, columns.data_digest)
        )
