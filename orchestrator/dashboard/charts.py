"""Charts as JSON: some series on one grid of x, as ``static/chart.js`` draws them."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.responses import Response

MOST_POINTS: Final = 300
"""Number of points of a curve: about one for every two or three pixels."""
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Point:
    """A value with its band, such as a 95 % interval; the band is optional."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Attributes:
        name: its name in the legend.
        points: x, a number -> value.
        band: what its band is, for the table; "" without bands.
        dots: whether to mark each point: few points that were measured, such as validations.
    """

    name: str
    points: Mapping[Any, Point]
    band: str = ""
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Series with a common x.

    Attributes:
        series: the series; those without points are not shown.
        x_label: what x is.
        unit: "share" for values in [0, 1] that are shown in per cent; "" otherwise.
        log: whether values are shown on a logarithmic axis.
    """

    series: Sequence[Series] = field(default_factory=tuple)
    x_label: str = "outer step"
    unit: str = ""
    log: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return JSON values. Where a series has no point, its value is null."""
        shown = [one for one in self.series if one.points]
        xs = sorted({x for one in shown for x in one.points})
        return {
            "x": xs,
            "x_label": self.x_label,
            "unit": self.unit,
            "log": self.log,
            "series": [
                {
                    "name": one.name,
                    "band": one.band,
                    "dots": one.dots,
                    **{
                        name: [_rounded(getattr(one.points.get(x), name, None)) for x in xs]
                        for name in ("value", "low", "high")
                    },
                }
                for one in shown
            ],
        }


def charts_response(charts: Mapping[str, Chart], **others: Any) -> Response:
    """Return charts by their keys as JSON."""
    found = {key: chart.to_json() for key, chart in charts.items()}
    text = json.dumps({"charts": found, **others}, allow_nan=False, separators=(",", ":"))
    return Response(text, media_type="application/json")


def _rounded(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")
