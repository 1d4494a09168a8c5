"""The plot of an episode of regression, as coordinates for an SVG element."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metafleet.orchestrator.redraw.drawn import DrawnEpisode

WIDTH: Final = 560
HEIGHT: Final = 260
_MARGIN: Final = 30


@dataclass(frozen=True, slots=True)
class FunctionPlot:
    """Points in the coordinates of an SVG element, and the labels of the axes.

    Attributes:
        targets, outputs: points of a polyline.
        support: centres of circles.
        x_ends, y_ends: smallest and largest value.
        width, height: size of the element.
    """

    targets: str
    outputs: str
    support: Sequence[tuple[float, float]]
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    width: int = WIDTH
    height: int = HEIGHT


def plot_function(episode: DrawnEpisode) -> FunctionPlot | None:
    """Plot an episode with one input and one output; return None for others."""
    items = (*episode.support, *episode.query)
    if any(len(item.inputs) != 1 or len(item.values) != 1 for item in items):
        return None
    query = sorted(episode.query, key=lambda item: item.inputs)
    xs = [item.inputs[0] for item in items]
    ys = [*(item.values[0] for item in items), *(item.outputs[0] for item in query)]
    x_ends, y_ends = (min(xs), max(xs)), (min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ends[0]) / ((x_ends[1] - x_ends[0]) or 1.0)
        up = (y - y_ends[0]) / ((y_ends[1] - y_ends[0]) or 1.0)
        return (
            round(_MARGIN + across * (WIDTH - 2 * _MARGIN), 1),
            round(HEIGHT - _MARGIN - up * (HEIGHT - 2 * _MARGIN), 1),
        )

    return FunctionPlot(
        _line([place(item.inputs[0], item.values[0]) for item in query]),
        _line([place(item.inputs[0], item.outputs[0]) for item in query]),
        [place(item.inputs[0], item.values[0]) for item in episode.support],
        x_ends,
        y_ends,
    )


def _line(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)
