"""Calibrates a state that was taken from a run, for commands that write a model."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from metafleet.calibration.calibrating import DEFAULT_EPISODES
from metafleet.calibration.calibration import Calibration
from metafleet.contracts.settings import Settings
from metafleet.db.records import RunRecord
from metafleet.errors import ConfigError, DataError
from metafleet.inference.kept_model import Learned
from metafleet.orchestrator.cli.data_view import progress_bar
from metafleet.orchestrator.config.section import MOST
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.calibrate_run import calibrator_of, describe


def calibration_option(
    of: str, *, default: int = DEFAULT_EPISODES
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the option for the number of calibration episodes; ``of`` says what is calibrated."""
    return click.option(
        "--calibration-episodes",
        type=click.IntRange(min=0, max=MOST),
        default=default,
        show_default=True,
        help=f"Validation episodes for calibration of {of}; 0 for no calibration.",
    )


def calibrate_taken(
    settings: Settings,
    run: RunRecord,
    learned: Learned,
    wanted: Sequence[tuple[int, int]] | None,
    *,
    n_episodes: int,
) -> Calibration | None:
    """Calibrate a learned state on validation episodes of its run.

    Print what was calibrated. If calibration is impossible, print the reason and return None. If
    ``n_episodes`` is 0, return None.

    Args:
        settings: where the data are.
        run: the run.
        learned: the learned state that was taken from the run.
        wanted: (n_way, k_shot) of each shape to calibrate for; None for the usual shapes.
        n_episodes: number of episodes of each shape; 0 for no calibration.

    Raises:
        NumericsError: an output is not finite.
    """
    problem = learned.blueprint.problem
    if n_episodes == 0 or problem.is_regression or problem.is_multi_label:
        return None
    try:
        calibrator = calibrator_of(settings, run, learned, n_episodes=n_episodes)
        notify(
            f"calibrating on {n_episodes} episodes of {calibrator.split} or fewer, of each shape; "
            "--calibration-episodes 0 leaves it out"
        )
        with progress_bar() as progress:
            shapes = calibrator.usual_shapes() if wanted is None else wanted
            found = calibrator.calibrate(shapes, progress)
    except (ConfigError, DataError) as error:
        notify(f"not calibrated: {error}")
        return None
    notify(describe(found))
    return found
