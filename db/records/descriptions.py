"""Descriptions of data sets: records and table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import String

from metafleet.db.records.runs import NAME_LENGTH, utc_now
from metafleet.db.records.table import table_of
from metafleet.db.types import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptionRecord:
    """The description of a data set by one version of the description.

    Attributes:
        data_digest: hash of the data and its splits, as in runs.
        version: version of the description.
        name: the data set's name.
        options: name and options of the data set, as in a configuration.
        description: the description, as JSON.
        created_at: time of the record, UTC. If the record is written again, the first time is kept.
    """

    data_digest: Annotated[str, String(100)]
    version: int
    name: Annotated[str, Line(NAME_LENGTH)]
    options: Mapping[str, Any]
    description: Mapping[str, Any]
    created_at: datetime = field(default_factory=utc_now, compare=False)


DATA_DESCRIPTIONS = table_of("data_descriptions", DescriptionRecord, key=("data_digest", "version"))
