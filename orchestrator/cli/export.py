"""`metafleet export`: write a trained model to a folder that needs no fleet."""

from dataclasses import replace
from pathlib import Path

import click

from metafleet.calibration.calibrating import EPISODES_OF_MANY
from metafleet.contracts.settings import Settings
from metafleet.errors import ModelError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.loading import load_model
from metafleet.inference.model_folder import check_free
from metafleet.inference.onnx_export import check_onnx_path, export_onnx
from metafleet.orchestrator.cli.arguments import PathType, RunName
from metafleet.orchestrator.cli.calibrating import calibrate_taken, calibration_option
from metafleet.orchestrator.cli.context import load_settings
from metafleet.orchestrator.cli.encoder_base import with_encoder_option
from metafleet.orchestrator.cli.reading import is_model
from metafleet.orchestrator.cli.taking import get_run_for, take_learned
from metafleet.orchestrator.reporting.output import notify


@click.command()
@click.argument("source", type=RunName(), metavar="RUN|MODEL")
@click.option(
    "--out",
    type=PathType(path_type=Path),
    required=True,
    help="The folder to write (safetensors and JSON); with --onnx, a file NAME.onnx.",
)
@click.option("--force", is_flag=True, help="Replace an existing model.")
@with_encoder_option
@click.option("--onnx", "as_onnx", is_flag=True, help="Write an adapted MODEL as one ONNX file.")
@click.option(
    "--without-encoder",
    is_flag=True,
    help="With --onnx: leave out the pretrained encoder; the graph then takes its features.",
)
@click.option(
    "--without-support", is_flag=True, help="Leave out the support examples of an adapted MODEL."
)
@calibration_option("a RUN, for each shape of support sets", default=EPISODES_OF_MANY)
def export(  # noqa: PLR0913 - options of one command
    source: str,
    *,
    out: Path,
    force: bool,
    with_encoder: bool,
    as_onnx: bool,
    without_encoder: bool,
    without_support: bool,
    calibration_episodes: int,
) -> None:
    """Export the state that RUN has learned, not yet adapted to any classes.

    The result is a folder with safetensors files, JSON files and a model card. On any machine,
    `metafleet adapt` and `metafleet.adapt` accept this folder instead of a run. If you give a MODEL
    instead of RUN, the command writes a checked copy of MODEL. With --onnx, the command writes an
    adapted MODEL as a graph for ONNX Runtime and similar software. The graph includes the
    pretrained encoder, and computes the same outputs without metafleet.

    \b
    metafleet export latest --out pets.learned
    metafleet export new-pets.model --onnx --out new-pets.onnx
    """
    settings = load_settings()
    if as_onnx and with_encoder:
        raise ModelError(
            "--onnx and --with-encoder: a graph includes the encoder unless --without-encoder is "
            "given; leave --with-encoder out"
        )
    if without_encoder and not as_onnx:
        raise ModelError("--without-encoder without --onnx; it is about graphs, so leave it out")
    if as_onnx:
        _export_onnx(settings, source, out, force=force, with_encoders=not without_encoder)
        return
    check_free(out, force=force)
    if is_model(source):
        model = load_model(source, allowed_packages=settings.allowed_packages)
        if without_support and isinstance(model, AdaptedModel):
            model = model.without_support()
    else:
        model = _taken(settings, source, calibration_episodes)
    model.save(out, force=force, with_encoder=with_encoder)
    learned = model.learned
    kind = f"{len(model.classes)} classes" if isinstance(model, AdaptedModel) else "not adapted"
    click.echo(
        f"{out}: learner {learned.blueprint.learner['name']}, model "
        f"{learned.blueprint.model['name']}, step {learned.origin.step}, {kind}"
    )


def _taken(settings: Settings, source: str, n_episodes: int) -> LearnedModel:
    """Take what a run has learned, calibrated for the support sets to expect."""
    model, run = take_learned(settings, source)
    found = calibrate_taken(settings, run, model.learned, None, n_episodes=n_episodes)
    return model if found is None else LearnedModel(replace(model.learned, calibration=found))


def _export_onnx(
    settings: Settings, source: str, out: Path, *, force: bool, with_encoders: bool
) -> None:
    check_onnx_path(out, force=force)
    model = _adapted(settings, source)
    export_onnx(model, out, force=force, with_encoders=with_encoders)
    for name in model.needs.known:
        spec = model.learned.blueprint.inputs.get(name)
        if spec is not None and spec.is_encoded:
            encoder = spec.decoder_options().encoder
            notify(
                f"the graph includes {encoder}; entry `takes` of its metadata describes {name!r}"
                if with_encoders
                else f"the graph takes the features of {encoder} as {name!r}, {list(spec.shape)} "
                "each"
            )
    kind = f"{len(model.classes)} classes" if model.classes else "a function"
    click.echo(f"{out}: {kind} of {', '.join(model.needs.known)}, the same as the model's outputs")


def _adapted(settings: Settings, source: str) -> AdaptedModel:
    if is_model(source):
        model = load_model(source, allowed_packages=settings.allowed_packages)
        if isinstance(model, AdaptedModel):
            return model
    else:
        get_run_for(settings, source)  # if this is no run either, do not advise to adapt it
    raise ModelError(
        f"{source} has not been adapted, and only what predicts is a graph; run "
        f"`metafleet adapt {source} --support FOLDER --out MODEL` first"
    )
