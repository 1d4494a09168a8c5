"""The figures of a report, drawn by matplotlib as SVG, PDF and PNG."""

import io
import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from metafleet.errors import ConfigError
from metafleet.files import drafting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS: Final = ("svg", "pdf", "png")
COLOURS: Final = ("#4477aa", "#ee6677", "#228833", "#b8860b", "#4fb3d9", "#aa3377", "#777777")
DASHES: Final = ("-", "--", ":", "-.")
_INK: Final = "#1a1d23"
_DIM: Final = "#8a919c"
_PARAMETERS: Final[dict[str, Any]] = {
    "font.size": 8.5,
    "axes.edgecolor": _DIM,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.color": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # names of runs may hold $
    "svg.hashsalt": "metafleet",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of a report.

    Attributes:
        name: name of its files.
        caption: what it shows.
        columns: headings of the table of its data.
        rows: the data, texts.
        draw: draws the figure.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    draw: Callable[[], "Figure"]

    def inline_svg(self) -> str:
        """Return an SVG element for a page. Its ink has the colour of the page's text."""
        with _style({"svg.fonttype": "none", "font.family": "sans-serif"}):
            file = io.StringIO()
            self.draw().savefig(file, format="svg", transparent=True, metadata={"Date": None})
        text = file.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
        text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{self.name}-", _without_colours(text))
        return text.replace("<svg ", '<svg aria-hidden="true" class="chart" ', 1).strip()

    def save(self, folder: Path) -> list[Path]:
        """Write the figure in every one of ``FORMATS``, and return the files."""
        paths = [folder / f"{self.name}.{suffix}" for suffix in FORMATS]
        for path in paths:
            metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(path.suffix[1:])
            with _style({"svg.fonttype": "path"}):
                figure = self.draw()
                with drafting(path, mode=0o644, survives=False) as draft:
                    figure.savefig(draft, format=path.suffix[1:], dpi=200, metadata=metadata)
        return paths


def new_figure(width: float = 7.0, height: float = 2.6, columns: int = 1) -> "tuple[Figure, Any]":
    """Return a figure of a size in inches, and its axes."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for each in axes:
        each.grid(True, color=_DIM, linewidth=0.4, alpha=0.35)
        each.set_axisbelow(True)
    return figure, axes


def line_style(index: int) -> dict[str, Any]:
    """Return the colour and dashes of a group."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
    }


def legend(axes: Any, n_entries: int) -> None:
    """Add a legend under the axes if there are several entries."""
    if n_entries > 1:
        handles, labels = axes.get_legend_handles_labels()
        axes.figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(n_entries, 4),
            fontsize=8,
            frameon=False,
        )


def require_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401, PLC0415 - optional
    except ImportError as error:
        raise ConfigError(
            f"a report needs matplotlib ({error}); pip install 'metafleet[report]'"
        ) from error


def thinned(values: Sequence[float], most: int = 200) -> tuple[list[float], list[float]]:
    """Return at most ``most`` means of consecutive values, with their mean positions from 1."""
    n_bins = min(most, len(values))
    edges = [round(i * len(values) / n_bins) for i in range(n_bins + 1)] if values else []
    places, means = [], []
    for first, end in itertools.pairwise(edges):
        places.append((first + 1 + end) / 2)
        means.append(sum(values[first:end]) / (end - first))
    return places, means


@contextmanager
def _style(more: dict[str, Any]) -> Iterator[None]:
    import matplotlib as mpl  # noqa: PLC0415 - optional

    parameters: Any = _PARAMETERS | more
    with mpl.rc_context(parameters), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # browsers have other fonts
        yield


def _without_colours(text: str) -> str:
    return text.replace(_INK, "currentColor")
