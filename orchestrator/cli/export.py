"""`metafleet export`: take what a run learned to where there is no fleet."""

from pathlib import Path

import click

from metafleet.using.adapted_model import AdaptedModel
from metafleet.using.loading import load_model
from metafleet.using.model_folder import check_free
from orchestrator.cli.context import load_settings
from orchestrator.cli.reading import is_model
from orchestrator.cli.taking import take_learned


@click.command()
@click.argument("source", metavar="RUN|MODEL")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="A folder to be made: safetensors and JSON.",
)
@click.option("--force", is_flag=True, help="Replace a model that is there.")
def export(source: str, *, out: Path, force: bool) -> None:
    """Write what RUN has learned, not yet adapted to any classes, as safetensors and JSON.

    `metafleet adapt` and `metafleet.adapt` take such a folder in place of a run, on any machine. Of
    a MODEL a checked copy is written.

    \b
    metafleet export latest --out pets.learned
    """
    check_free(out, force=force)
    settings = load_settings()
    if is_model(source):
        model = load_model(source, allowed_packages=settings.allowed_packages)
    else:
        model = take_learned(settings, source)
    model.save(out, force=force)
    learned = model.learned
    kind = f"{len(model.classes)} classes" if isinstance(model, AdaptedModel) else "not adapted"
    click.echo(
        f"{out}: learner {learned.blueprint.learner['name']}, model "
        f"{learned.blueprint.model['name']}, step {learned.origin.step}, {kind}"
    )
