"""`metafleet submit`: run an experiment once per seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from metafleet.experiments import find_experiment
from metafleet.orchestrator.cli.arguments import PathType
from metafleet.orchestrator.cli.context import load_settings
from metafleet.orchestrator.cli.launching import (
    LaunchOptions,
    launch,
    launch_options,
    override_option,
)
from metafleet.orchestrator.config.experiment import ExperimentConfig


@click.command()
@click.argument("file", type=PathType(path_type=Path))
@override_option
@launch_options
def submit(file: Path, *, overrides: Sequence[str], **options: Any) -> None:
    """Run an experiment. FILE is a path, or the name of an experiment that comes with metafleet.

    \b
    metafleet submit experiments/sinusoid-maml.toml --set outer.steps=500
    metafleet submit omniglot-protonet --seeds 1,2,3
    metafleet submit glyphs-maml --detach --priority 5
    """
    wanted = LaunchOptions(**options)
    settings = load_settings()
    config = ExperimentConfig.load(
        find_experiment(file), overrides, allowed_packages=settings.allowed_packages
    )
    launch(settings, config, wanted)
