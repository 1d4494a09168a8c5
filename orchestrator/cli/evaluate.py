"""`metafleet evaluate`: evaluate the state that a run has learned."""

from dataclasses import asdict
from typing import Final

import click
from click.core import ParameterSource

from metafleet.contracts.private_files import private_files
from metafleet.db.repositories.runs import RunRepository
from metafleet.episode import META_TEST, SPLITS
from metafleet.errors import ConfigError
from metafleet.orchestrator.cli.arguments import EpisodeSize, RunName, Share
from metafleet.orchestrator.cli.broker import require_fleet
from metafleet.orchestrator.cli.calibrating import calibration_option
from metafleet.orchestrator.cli.context import (
    echo_json,
    load_settings,
    open_records,
)
from metafleet.orchestrator.cli.data_view import progress_bar
from metafleet.orchestrator.cli.evaluations import show_evaluations
from metafleet.orchestrator.cli.logs import log_to
from metafleet.orchestrator.cli.progress import watching
from metafleet.orchestrator.cli.uncertainty import show_uncertainty
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.config.section import MOST
from metafleet.orchestrator.recording.left_rows import replay_left_rows
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.calibrate_run import (
    UncertaintyQuestion,
    check_uncertainty,
    judge_uncertainty,
)
from metafleet.orchestrator.runs.evaluate_run import evaluate_run
from metafleet.orchestrator.runs.learned_work import open_learned_work

_OF_UNCERTAINTY: Final = {
    "coverages": "--coverage",
    "shapes": "--shape",
    "calibration_episodes": "--calibration-episodes",
}
"""Parameter -> option that has an effect only with --uncertainty."""


@click.command()
@click.argument("run", type=RunName())
@click.option("--split", type=click.Choice(SPLITS), default=META_TEST, show_default=True)
@click.option("--episodes", type=click.IntRange(min=2, max=MOST), default=1000, show_default=True)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key of the run's episodes, e.g. episodes.k_shot=5; may be repeated.",
)
@click.option(
    "--baselines",
    is_flag=True,
    help="Also evaluate the untrained learner, and nearest prototypes of raw inputs.",
)
@click.option(
    "--modalities",
    "by_modality",
    is_flag=True,
    help="Also evaluate with each modality alone, and without each modality.",
)
@click.option(
    "--inner-steps",
    is_flag=True,
    help="Also evaluate after each inner step; `runs show --inner-steps` shows the results.",
)
@click.option(
    "--uncertainty",
    is_flag=True,
    help='Also evaluate probabilities, label sets and "none of these"; computed here.',
)
@click.option(
    "--coverage",
    "coverages",
    type=Share(),
    multiple=True,
    default=(0.9,),
    show_default=True,
    help="Coverage of label sets with --uncertainty; may be repeated.",
)
@click.option(
    "--shape",
    "shapes",
    type=EpisodeSize(),
    metavar="WAYSxSHOTS",
    multiple=True,
    help="Shape of episodes for --uncertainty, e.g. 5x1; default: the split's; may be repeated.",
)
@calibration_option("each shape, with --uncertainty")
@click.option(
    "--in-process", is_flag=True, help="Compute in this process, without Redis and workers."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per result.")
def evaluate(  # noqa: PLR0913 - options of one command
    run: str,
    *,
    split: str,
    episodes: int,
    overrides: tuple[str, ...],
    baselines: bool,
    by_modality: bool,
    inner_steps: bool,
    uncertainty: bool,
    coverages: tuple[float, ...],
    shapes: tuple[tuple[int, int], ...],
    calibration_episodes: int,
    in_process: bool,
    as_json: bool,
) -> None:
    """Evaluate RUN's learned state on episodes of a split, with a 95 % interval.

    The episodes depend only on the run's seed and the split. The run's own validation or test used
    the first of these episodes. Ask for more episodes than the run used; otherwise, no episode is
    new.

    \b
    metafleet evaluate latest --split meta_test --episodes 1000
    metafleet evaluate latest --set episodes.n_way=20 --set episodes.meta_test.missing_rate=0.3
    metafleet evaluate latest --set episodes.k_shot=5 --baselines
    metafleet evaluate latest --modalities --inner-steps
    metafleet evaluate latest --uncertainty --coverage 0.9 --shape 5x1 --shape 5x5
    """
    if not uncertainty:
        _refuse_alone()
    question = UncertaintyQuestion(split, episodes, coverages, shapes, calibration_episodes)
    settings = load_settings()
    with open_records(settings, run) as database:
        with database.session(read_only=True) as session:
            record = RunRepository(session).get(run)
        replay_left_rows(database, settings, record, notify)
        if not in_process:
            require_fleet(settings)
        work = None
        if uncertainty:  # refused before anything is computed
            work = open_learned_work(
                settings, record, split=split, overrides=overrides, notify=notify
            )
            check_uncertainty(work, question)
        log_to(settings.home / "logs", settings)
        with private_files(), watching(has_steps=False) as observer:
            found = evaluate_run(
                database,
                settings,
                record.uid,
                split=split,
                episodes=episodes,
                in_process=in_process,
                observer=observer,
                overrides=overrides,
                baselines=baselines,
                by_modality=by_modality,
                inner_steps=inner_steps,
            )
        judged = []
        if work is not None:
            with progress_bar() as progress:
                judged = judge_uncertainty(work, question, progress)
    if as_json:
        names = {"run_id": record.id, "uid": record.uid}
        for one in found:
            echo_json(names | asdict(one))
        for each in judged:
            echo_json(names | {"label": "uncertainty"} | asdict(each))
        return
    config = ExperimentConfig.from_json(record.config).with_episodes(overrides, split=split)
    show_evaluations(found, config)
    show_uncertainty(judged)


def _refuse_alone() -> None:
    """Refuse options that need --uncertainty, for a command line without --uncertainty.

    Raises:
        ConfigError: one of these options is on the command line.
    """
    context = click.get_current_context()
    for name, option in _OF_UNCERTAINTY.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise ConfigError(f"{option} goes with --uncertainty; add --uncertainty")
