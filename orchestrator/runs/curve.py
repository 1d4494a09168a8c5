"""Draws the learning curve of a run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metafleet.data.scoring import score_name
from metafleet.db.records import EvaluationRecord, OuterStepRecord, RunRecord
from metafleet.episode import META_TEST, META_TRAIN, META_VAL
from metafleet.errors import ConfigError
from metafleet.files import drafting
from metafleet.orchestrator.config.experiment import ExperimentConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRAIN, _VALIDATION, _TEST, _INK = "#4477aa", "#ee7733", "#117733", "#444444"
_BASELINES = {
    "nearest_prototype": "nearest prototype on raw features",
    "initialisation": "without meta-training",
}
_WINDOW_SHARE = 20
_NEAR_AXIS = 8.0
_LEGEND: dict[str, Any] = {"fontsize": 8.5, "edgecolor": "none", "framealpha": 0.85}
_MARKS: dict[str, Any] = {"capsize": 3, "zorder": 4}
_Values = Callable[[EvaluationRecord], tuple[float, float]]


def draw_learning_curve(
    path: Path,
    run: RunRecord,
    steps: Sequence[OuterStepRecord],
    evaluations: Sequence[EvaluationRecord],
) -> None:
    """Draw training, validations with intervals, test and baselines into a file, atomically.

    Raises:
        ConfigError: matplotlib is not installed, there are no steps to draw, or the file cannot
            be written.
    """
    try:
        # optional package: commands that draw nothing must work without it
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"the learning curve needs matplotlib ({error}); pip install 'metafleet[data]'"
        ) from error
    if not steps:
        raise ConfigError(f"run {run.id} has no outer steps to draw yet; train it first")
    config = ExperimentConfig.from_json(run.config)
    is_classification = steps[-1].accuracy is not None
    n_panels = 2 if is_classification else 1
    figure = Figure(figsize=(8.0, 3.0 + 2.8 * n_panels), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(n_panels, 1, sharex=True, squeeze=False)[:, 0]
    if is_classification:
        _draw_accuracy(panels[0], config, steps, evaluations)
    _draw_loss(panels[-1], config, steps, evaluations)
    figure.suptitle(_title(run, config), fontsize=12, x=0.02, ha="left")
    panels[-1].set_xlabel("outer step")
    panels[-1].locator_params(axis="x", integer=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with drafting(path, mode=0o644, survives=False) as draft:
            figure.savefig(draft, format="png")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror or error}); choose another with --output"
        ) from error


def _draw_accuracy(
    axes: "Axes",
    config: ExperimentConfig,
    steps: Sequence[OuterStepRecord],
    evaluations: Sequence[EvaluationRecord],
) -> None:
    def values(e: EvaluationRecord) -> tuple[float, float]:
        return 100 * (e.accuracy or 0.0), 100 * (e.accuracy_ci95 or 0.0)

    chosen = [(step.step, 100 * step.accuracy) for step in steps if step.accuracy is not None]
    _draw_training(axes, config, *zip(*chosen, strict=True))
    _draw_evaluations(axes, evaluations, values, "{:.2f} ± {:.2f} %")
    _draw_baselines(axes, evaluations, values, "{:.2f} %")
    n_way, metric = config.episodes.shape(META_TEST).n_way, score_name(config.data)
    if metric == "accuracy":
        _draw_line(axes, 100 / n_way, f"chance: {100 / n_way:.2f} %")
    axes.set_ylabel(f"query {metric} (%)")
    axes.set_ylim(0, 102)
    _finish(axes)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.1), **_LEGEND)


def _draw_loss(
    axes: "Axes",
    config: ExperimentConfig,
    steps: Sequence[OuterStepRecord],
    evaluations: Sequence[EvaluationRecord],
) -> None:
    def values(e: EvaluationRecord) -> tuple[float, float]:
        return e.loss, e.loss_ci95

    _draw_training(axes, config, [s.step for s in steps], [s.loss for s in steps])
    _draw_evaluations(axes, evaluations, values, "{:.3g} ± {:.2g}")
    axes.set_yscale("log", subs=[])
    axes.yaxis.get_major_locator().set_params(subs=(1, 2, 3, 5))  # type: ignore[call-arg] # of a LogLocator
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.set_ylabel("query loss (log scale)")
    _finish(axes)
    if steps[-1].accuracy is None:
        _draw_baselines(axes, evaluations, values, "{:.3g}")
        axes.legend(loc="upper right", **_LEGEND)


def _draw_training(
    axes: "Axes", config: ExperimentConfig, xs: Sequence[int], ys: Sequence[float]
) -> None:
    shape = config.episodes.shape(META_TRAIN)
    label = f"meta-training, {shape.n_way}-way" if shape.n_way else "meta-training"
    axes.plot(xs, ys, color=_TRAIN, alpha=0.25, linewidth=0.8)
    axes.plot(xs, smooth(ys), color=_TRAIN, linewidth=2, label=f"{label}, smoothed")


def smooth(values: Sequence[float]) -> list[float]:
    """Average each value with its neighbours: a centred window of a twentieth of the run."""
    half = max(1, len(values) // _WINDOW_SHARE // 2)
    given = np.asarray(values, dtype=float)
    is_finite = np.isfinite(given)
    sums = np.concatenate([[0.0], np.cumsum(np.where(is_finite, given, 0.0))])
    counts = np.concatenate([[0], np.cumsum(is_finite)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    means = (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1)
    return [float(mean) for mean in means]


def _draw_evaluations(
    axes: "Axes", evaluations: Sequence[EvaluationRecord], values: _Values, form: str
) -> None:
    trained = sorted((e for e in evaluations if e.label == "trained"), key=lambda e: e.step)
    validations = [e for e in trained if e.split == META_VAL]
    if validations:
        means, halves = zip(*map(values, validations), strict=True)
        axes.errorbar(
            [e.step for e in validations],
            means,
            halves,
            **(_MARKS | {"fmt": "o-", "color": _VALIDATION, "markersize": 4.5, "linewidth": 1}),
            label="meta-validation, 95 % interval",
        )
    for e in trained:
        if e.split == META_TEST:
            mean, half = values(e)
            axes.errorbar(
                [e.step],
                [mean],
                [half],
                **(_MARKS | {"fmt": "D", "color": _TEST, "markersize": 7}),
                label=f"meta-test: {form.format(mean, half)}",
            )


def _draw_baselines(
    axes: "Axes", evaluations: Sequence[EvaluationRecord], values: _Values, form: str
) -> None:
    for e in evaluations:
        if e.split == META_TEST and e.label in _BASELINES:
            value = values(e)[0]
            _draw_line(axes, value, f"{_BASELINES[e.label]}: {form.format(value)}")


def _draw_line(axes: "Axes", y: float, text: str) -> None:
    axes.axhline(y, color=_INK, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
    axes.annotate(
        text,
        xy=(0.99, y),
        ha="right",
        xycoords=("axes fraction", "data"),
        # the training curve ends above the baselines of the accuracy and below those of the loss:
        # avoid it, and the axis, which is close to chance level with many classes
        xytext=(0, 4 if axes.get_yscale() == "log" or y < _NEAR_AXIS else -11),
        textcoords="offset points",
        fontsize=8.5,
        color=_INK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
    )


def _finish(axes: "Axes") -> None:
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)


def _title(run: RunRecord, config: ExperimentConfig) -> str:
    shape = config.episodes.shape(META_TEST)
    ways = f"{shape.n_way}-way " if shape.n_way else ""
    what = f"{config.learner['name']} on {config.data['name']}, {ways}{shape.k_shot}-shot"
    return f"run {run.id} {run.name}: {what} (seed {run.seed})"
