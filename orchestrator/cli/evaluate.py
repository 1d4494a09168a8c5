"""`metafleet evaluate`: evaluate the state that a run has learned."""

from dataclasses import asdict

import click

from metafleet.contracts.private_files import private_files
from metafleet.db.repositories.runs import RunRepository
from metafleet.episode import META_TEST, SPLITS
from metafleet.orchestrator.cli.arguments import RunName
from metafleet.orchestrator.cli.context import (
    echo_json,
    load_settings,
    open_records,
    require_broker,
)
from metafleet.orchestrator.cli.evaluations import show_evaluations
from metafleet.orchestrator.cli.logs import log_to
from metafleet.orchestrator.cli.progress import watching
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.config.section import MOST
from metafleet.orchestrator.recording.left_rows import replay_left_rows
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.evaluate_run import evaluate_run


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
    in_process: bool,
    as_json: bool,
) -> None:
    """Evaluate the state that RUN has learned on episodes of a split, with a 95 % interval.

    The episodes depend only on the run's seed and the split. The first ones are those on which the
    run itself was validated or tested, so ask for more episodes than that.

    \b
    metafleet evaluate latest --split meta_test --episodes 1000
    metafleet evaluate latest --set episodes.n_way=20 --set episodes.meta_test.missing_rate=0.3
    metafleet evaluate latest --set episodes.k_shot=5 --baselines
    """
    settings = load_settings()
    with open_records(settings, run) as database:
        with database.session(read_only=True) as session:
            record = RunRepository(session).get(run)
        replay_left_rows(database, settings, record, notify)
        if not in_process:
            require_broker(settings)
        log_to(settings.home / "logs")
        with private_files(), watching(has_steps=False) as observer:
            found = evaluate_run(
                database,
                settings,
                record.id,
                split=split,
                episodes=episodes,
                in_process=in_process,
                observer=observer,
                overrides=overrides,
                baselines=baselines,
            )
    if as_json:
        for one in found:
            echo_json({"run_id": record.id, "uid": record.uid} | asdict(one))
        return
    config = ExperimentConfig.from_json(record.config).with_episodes(overrides, split=split)
    show_evaluations(found, config)
