"""Descriptions of data sets in the database."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection

from metafleet.contracts.settings import Settings
from metafleet.data.registry import pin
from metafleet.db.engine import Database
from metafleet.db.records import DescriptionRecord
from metafleet.db.repositories.descriptions import DescriptionRepository
from metafleet.describing.describing import describe_data
from metafleet.describing.description import VERSION, Description
from metafleet.errors import DataCorruptError


def describe_and_store(
    database: Database, settings: Settings, options: Mapping[str, Any]
) -> Description:
    """Describe prepared data, and store the description by the digest of the data.

    Raises:
        ConfigError, DataError: see ``describe_data``.
    """
    pinned = pin(options, settings.data_dir)
    found = describe_data(pinned, settings.data_dir, allowed_packages=settings.allowed_packages)
    record = DescriptionRecord(
        data_digest=found.digest,
        version=found.version,
        name=label_of(pinned),
        options=pinned,
        description=found.to_json(),
    )
    with database.session() as session:
        DescriptionRepository(session).put(record)
    return found


def stored_descriptions(session: Connection) -> dict[str, Description]:
    """Return digest -> description of the current version; damaged ones are left out."""
    found = {}
    for record in DescriptionRepository(session).list(version=VERSION):
        with suppress(DataCorruptError):
            found[record.data_digest] = Description.from_json(record.description)
    return found


def label_of(options: Mapping[str, Any]) -> str:
    """Return the name by which users know a data set: that of the import, if it was imported."""
    return str(options.get("imported") or options.get("path") or options.get("name", ""))
