"""`metafleet runs clone`: run a changed configuration of an earlier run."""

from collections.abc import Sequence
from typing import Any

import click

from metafleet.db.repositories.runs import RunRepository
from metafleet.orchestrator.cli.arguments import RunName
from metafleet.orchestrator.cli.context import load_settings, open_records
from metafleet.orchestrator.cli.launching import (
    LaunchOptions,
    launch,
    launch_options,
    override_option,
)
from metafleet.orchestrator.config.experiment import ExperimentConfig


@click.command("clone")
@click.argument("run", type=RunName())
@override_option
@launch_options
def clone(run: str, *, overrides: Sequence[str], **options: Any) -> None:
    """Start a new run with the configuration of RUN and the changes given by --set.

    The new run begins at step 0, and records RUN as its parent.

    \b
    metafleet runs clone latest --set outer.lr=0.003 --seeds 1,2,3
    """
    wanted = LaunchOptions(**options)
    settings = load_settings()
    with open_records(settings, run) as database, database.session(read_only=True) as session:
        parent = RunRepository(session).get(run)
    config = ExperimentConfig.changed(
        parent.config,
        overrides,
        origin=f"configuration of run {parent.id}",
        allowed_packages=settings.allowed_packages,
    )
    launch(settings, config, wanted, parent=parent)
