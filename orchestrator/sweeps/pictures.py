"""Draws a sweep: parallel coordinates, or a contour over two keys."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from metafleet.errors import ConfigError
from metafleet.files import drafting
from metafleet.orchestrator.sweeps.plan import Plan
from metafleet.orchestrator.sweeps.study import importances_of, study_of
from metafleet.orchestrator.sweeps.trial import Trial

KINDS: Final = ("parallel", "contour")
_DPI: Final = 150
_MOST_SPREADS: Final = 4.0
"""Limit of the colours, in distances of the median from the best result."""


def draw_sweep(
    path: Path, plan: Plan, trials: Sequence[Trial], *, kind: str, keys: Sequence[str] = ()
) -> None:
    """Draw the finished trials of a sweep into a PNG file.

    Args:
        path: the file.
        plan: the plan of the sweep.
        trials: the trials.
        kind: one of ``KINDS``. "parallel" has an axis for each key and a line for each trial;
            "contour" shows the result over two keys.
        keys: the keys to draw. By default, all keys, or the two most important ones in a contour.

    Raises:
        ConfigError: a package is missing, too few trials have finished, or a key is not in the
            space.
    """
    labels = _labels(plan, trials, kind, keys)
    try:
        from matplotlib import pyplot  # noqa: PLC0415 - an optional package
        from optuna.visualization import matplotlib as drawing  # noqa: PLC0415

        pyplot.switch_backend("agg")
    except ImportError as error:
        raise ConfigError(
            f"pictures of sweeps need more packages ({error}); pip install 'metafleet[data,sweep]'"
        ) from error
    is_share = any(trial.entry and trial.entry.is_share("best") for trial in trials)
    draw: Any = drawing.plot_contour if kind == "contour" else drawing.plot_parallel_coordinate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna, about experimental functions
        study = study_of(plan, trials, {}, what="the picture")
        limit = _limit(trials) * (1.0 if is_share else -1.0)
        nearer = max if is_share else min
        axes = draw(
            study,
            params=labels,
            target=lambda trial: nearer(trial.value, limit),
            target_name=_name(is_share),
        )
        _finish(axes, plan, len(labels), f"worse than {limit:.4g} drawn as {limit:.4g}")
    figure: Any = pyplot.gcf()
    try:
        with drafting(path, mode=0o644, survives=False) as draft:
            figure.savefig(draft, dpi=_DPI, format="png", bbox_inches="tight")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror or error}); choose another with --output"
        ) from error
    finally:
        pyplot.close(figure)


def _labels(plan: Plan, trials: Sequence[Trial], kind: str, keys: Sequence[str]) -> list[str]:
    """Return the names of the parameters to draw. Each finished trial must have all of them."""
    finished = [trial for trial in trials if trial.score is not None]
    known = [one.key for one in plan.search.space if one.condition is None]
    for key in keys:
        if key not in known:
            raise ConfigError(
                f"--keys {key!r:.60} cannot be drawn; expected some of {', '.join(known)}, which "
                "all trials have"
            )
    if len(finished) < 2:
        raise ConfigError(
            f"{len(finished)} trials of sweep {plan.name!r} have finished; expected 2 or more for "
            "a picture"
        )
    if kind != "contour":
        return list(keys or known)
    if not keys:
        ranked = importances_of(plan, trials) or dict.fromkeys(known, 0.0)
        keys = [key for key in ranked if key in known][:2]
    if len(keys) != 2:
        raise ConfigError(
            f"a contour needs two keys that all trials have, not {len(keys)}; expected --keys A,B, "
            "or --kind parallel"
        )
    return list(keys)


def _limit(trials: Sequence[Trial]) -> float:
    """Return a score; worse ones would hide the differences between good ones."""
    scores = [trial.score for trial in trials if trial.score is not None]
    best, middle = max(scores), median(scores)
    return max(best - _MOST_SPREADS * (best - middle), min(scores))


def _name(is_share: bool) -> str:
    return "score (meta_val)" if is_share else "loss (meta_val)"


def _finish(axes: Any, plan: Plan, n_keys: int, limit: str) -> None:
    axes.set_title(f"{plan.name}, {limit}", fontsize=10)
    axes.figure.set_size_inches(max(6.0, 1.8 * (n_keys + 1)), 4.5)
