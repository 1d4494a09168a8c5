"""The templates, and how they show values."""

import math
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from metafleet.db.records import utc_now
from metafleet.orchestrator.dashboard.view_state import changed, order_of, sorted_by
from metafleet.orchestrator.records.literals import shown
from metafleet.orchestrator.reporting.figures import counted, duration, figure

FOLDER: Final = Path(__file__).parent
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


@cache
def make_templates() -> jinja2.Environment:
    """Return the templates. Every value is escaped, and a missing value is an error."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.globals |= {"order_of": order_of, "sorted_by": sorted_by, "changed": changed}
    found.filters |= {
        "ago": ago,
        "counted": counted,
        "duration": duration,
        "figure": figure,
        "number": number,
        "plain": plain,
        "moment": moment,
    }
    return found


def number(value: float | None, digits: int = 4) -> str:
    """Format a number; "-" if there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"


def plain(value: Any) -> str:
    """Format a value of a configuration; "-" if there is none."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return shown(dict(value)) if isinstance(value, Mapping) else shown(value)


def ago(moment: datetime | None) -> str:
    """Format how long ago a time was: "12 s", "3 min", "2 h", "5 d"; "-" if there is none."""
    if moment is None:
        return "-"
    seconds = max(0.0, (utc_now() - moment).total_seconds())
    for length_s, unit in _UNITS:
        if seconds >= length_s:
            return f"{seconds // length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(value: datetime | None) -> Markup:
    """Return an element with how long ago a time was, and the exact time as its title."""
    if value is None:
        return Markup("-")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        value.isoformat(), f"{value:%Y-%m-%d %H:%M:%S}", ago(value)
    )
