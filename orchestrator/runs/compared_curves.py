"""Draws the meta-validations of several runs, or groups of runs, in one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from metafleet.db.records import EvaluationRecord
from metafleet.errors import ConfigError
from metafleet.files import drafting

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")
_DASHES = ("-", "--", ":", "-.")


def draw_validations(
    path: Path, arms: Mapping[str, Sequence[Sequence[EvaluationRecord]]], *, is_score: bool
) -> None:
    """Draw the validations of several arms: for each arm, a line of the mean over its runs.

    The line shows the mean at each validated step. In addition, each run has a faint line. The file
    is written atomically.

    Args:
        path: the PNG file.
        arms: name -> the validations of each run.
        is_score: whether to draw scores. If False, losses are drawn.

    Raises:
        ConfigError: matplotlib is not installed, no run has a validation, or the file cannot be
            written.
    """
    try:
        # optional package: commands that draw nothing must work without it
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"the picture needs matplotlib ({error}); pip install 'metafleet[data]'"
        ) from error
    if not any(run for runs in arms.values() for run in runs):
        raise ConfigError("no run has a meta-validation to draw; set validation.every")
    figure = Figure(figsize=(8.0, 5.0), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for index, (name, runs) in enumerate(arms.items()):
        style: dict[str, Any] = {
            "color": _COLOURS[index % len(_COLOURS)],
            "linestyle": _DASHES[index // len(_COLOURS) % len(_DASHES)],
        }
        points = [{e.step: _value(e, is_score=is_score) for e in run} for run in runs]
        if len(points) > 1:
            for run in points:
                axes.plot(list(run), list(run.values()), alpha=0.3, linewidth=0.8, **style)
        steps = sorted({step for run in points for step in run})
        means = [fmean(run[step] for run in points if step in run) for step in steps]
        more = f" ({len(points)} seeds)" if len(points) > 1 else ""
        more = more if steps else " (no meta-validation)"
        axes.plot(steps, means, marker="o", markersize=4, label=f"{name}{more}", **style)
    axes.set_xlabel("outer step")
    axes.set_ylabel("meta-validation (%)" if is_score else "meta-validation loss")
    axes.locator_params(axis="x", integer=True)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8.5, edgecolor="none", framealpha=0.85)
    try:
        with drafting(path, mode=0o644, survives=False) as draft:
            figure.savefig(draft, format="png")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror or error}); choose another with --curves"
        ) from error


def _value(evaluation: EvaluationRecord, *, is_score: bool) -> float:
    return 100 * (evaluation.accuracy or 0.0) if is_score else evaluation.loss
