"""`metafleet adapt`: learn new classes from a handful of examples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from metafleet.calibration.calibration import mean_shots
from metafleet.contracts.settings import Settings
from metafleet.data.importing.reading import require_there
from metafleet.db.records import RunRecord
from metafleet.encoders.fetching import allow_fetching
from metafleet.errors import ConfigError, ModelError
from metafleet.inference.adapted_model import MOST_SUPPORT_BYTES, AdaptedModel
from metafleet.inference.corrections import correct
from metafleet.inference.from_encoder import read_encoders
from metafleet.inference.items import ReadOptions
from metafleet.inference.kept_encoders import require_files
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.loading import load_model
from metafleet.inference.model_folder import check_free
from metafleet.inference.question_queue import require_queue
from metafleet.models.batch_norm import MODES
from metafleet.orchestrator.cli.arguments import PathType, RunName
from metafleet.orchestrator.cli.calibrating import calibrate_taken, calibration_option
from metafleet.orchestrator.cli.context import echo_json, load_settings
from metafleet.orchestrator.cli.data_view import progress_bar
from metafleet.orchestrator.cli.encoder_base import (
    classes_option,
    encoder_options,
    learned_from_encoders,
    read_classes,
    require_one_base,
    with_encoder_option,
)
from metafleet.orchestrator.cli.reading import is_model, read_options, reading_options
from metafleet.orchestrator.cli.taking import take_learned
from metafleet.orchestrator.reporting.output import notify


@click.command()
@click.argument("base", type=RunName(), required=False, metavar="[RUN|MODEL]")
@click.option(
    "--support",
    type=PathType(path_type=Path),
    help="A folder or manifest of labelled examples; a table of x and y for regression.",
)
@classes_option
@click.option(
    "--correct",
    "queue",
    type=PathType(path_type=Path),
    help="The .csv that `metafleet predict --ask` wrote, with labels: they join the support set.",
)
@click.option(
    "--out", type=PathType(path_type=Path), required=True, help="The folder to write the model to."
)
@click.option("--force", is_flag=True, help="Replace an existing model.")
@click.option(
    "--batch-norm",
    type=click.Choice(MODES),
    help="Batch-norm mode, if not that of training; 'support' makes predictions independent.",
)
@encoder_options
@with_encoder_option
@calibration_option("a RUN")
@reading_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def adapt(  # noqa: PLR0913 - options of one command
    base: str | None,
    *,
    support: Path | None,
    classes: str | None,
    queue: Path | None,
    out: Path,
    force: bool,
    batch_norm: str | None,
    encoders: Sequence[str],
    head: str | None,
    prompts: Sequence[str],
    assignments: Sequence[str],
    with_encoder: bool,
    calibration_episodes: int,
    as_json: bool,
    **reading: Any,
) -> None:
    """Adapt RUN's learned state to the classes of a folder, and save the result as a MODEL.

    The model comes with a card that lists the data of its training and evaluation.

    The command uses the run's state with the best validation result. If the run has no validation,
    the command uses the run's newest state. The run can still be in progress. Instead of a run, you
    can give a model that `metafleet export` or this command wrote. You can also give only a
    pretrained encoder (--encoder). With an encoder alone, no run and no database are needed.

    \b
    metafleet adapt latest --support ~/new-pets --out new-pets.model
    metafleet adapt new-pets.model --correct queue.csv --out better.model
    metafleet adapt --encoder image=package:efficientnet-lite0 --support ~/new-pets --out pets.model
    metafleet adapt --encoder image=open_clip:DIR --head zero_shot --classes cat,dog --out zs.model
    """
    options = read_options(**reading)
    require_one_base(base, encoders, head, prompts, assignments)
    check_free(out, force=force)
    _check_examples(base, support, classes, queue, batch_norm)
    names = None if classes is None else read_classes(classes)
    settings = load_settings()
    allow_fetching(settings.fetch_weights != "never")
    run = None
    if support is None and names is None:
        assert base is not None
        model = _adapted(settings, base, encoders)
    else:
        if base is None:
            learned = learned_from_encoders(
                encoders,
                head,
                prompts,
                assignments,
                allowed_packages=settings.allowed_packages,
            )
        else:
            learned, run = _learned(settings, base, encoders)
        if with_encoder:
            require_files(learned.learned.blueprint)
        if batch_norm is not None:
            learned = learned.with_batch_norm(batch_norm, settings.allowed_packages)
        model = _learn_classes(learned, support, names, options)
    if queue is not None:
        with progress_bar() as progress:
            model = correct(model, queue, options, progress=progress)
    if run is not None:
        model = _calibrated(settings, run, model, calibration_episodes)
    model.save(out, force=force, with_encoder=with_encoder)
    _tell(model, out, as_json=as_json)


def _check_examples(
    base: str | None,
    support: Path | None,
    classes: str | None,
    queue: Path | None,
    batch_norm: str | None,
) -> None:
    """Check that the examples are there, or that what is given in their place suffices."""
    given = f"--support {support}" if support is not None else f"--correct {queue}"
    if classes is not None and (support is not None or queue is not None):
        raise ConfigError(
            f"--classes {classes:.80} and {given}: names go without examples; give one"
        )
    if support is not None:
        require_there(support.expanduser())
    elif classes is None:
        _check_correction(base, queue, batch_norm)
    if queue is not None:
        require_queue(queue.expanduser())


def _learn_classes(
    learned: LearnedModel, support: Path | None, names: list[str] | None, options: ReadOptions
) -> AdaptedModel:
    """Adapt to examples, or to names of classes."""
    if support is None:
        assert names is not None
        return learned.adapt_to_names(names)
    with progress_bar() as progress:
        return learned.adapt(support, options, progress=progress)


def _check_correction(base: str | None, queue: Path | None, batch_norm: str | None) -> None:
    """Refuse what needs a support set where none is given."""
    if base is None:
        raise ConfigError(
            "--encoder makes a new model of examples; give --support FOLDER, or --classes with "
            "--head zero_shot"
        )
    if queue is None:
        raise ConfigError("give --support FOLDER, or of an adapted MODEL --correct QUEUE")
    if batch_norm is not None:
        raise ConfigError(
            "--batch-norm makes another model, which corrections alone do not; give --support too"
        )
    if not is_model(base):
        raise ModelError(
            f"there is no model at {base} to correct; of a run, give --support FOLDER too"
        )


def _adapted(settings: Settings, base: str, encoders: Sequence[str]) -> AdaptedModel:
    model = load_model(
        base, allowed_packages=settings.allowed_packages, encoders=read_encoders(encoders)
    )
    if not isinstance(model, AdaptedModel):
        raise ModelError(
            f"{base} has not been adapted to any classes that could be corrected; give --support "
            "FOLDER too"
        )
    return model


def _learned(
    settings: Settings, base: str, encoders: Sequence[str]
) -> tuple[LearnedModel, RunRecord | None]:
    if not is_model(base):
        return take_learned(settings, base)
    model = load_model(
        base, allowed_packages=settings.allowed_packages, encoders=read_encoders(encoders)
    )
    return LearnedModel(model.learned), None


def _calibrated(
    settings: Settings, run: RunRecord, model: AdaptedModel, n_episodes: int
) -> AdaptedModel:
    """Calibrate for the ways and shots of the support set."""
    if not model.classes:
        return model
    wanted = [(len(model.classes), max(1, round(mean_shots(model.classes))))]
    found = calibrate_taken(settings, run, model.learned, wanted, n_episodes=n_episodes)
    return model if found is None else model.with_calibration(found)


def _tell(model: AdaptedModel, out: Path, *, as_json: bool) -> None:
    for note in model.notes:
        notify(note)
    is_multi_label = model.learned.blueprint.problem.is_multi_label
    examples = sum(model.classes.values())
    if examples and not model.keeps_support and not is_multi_label:
        notify(
            f"the support set is larger than {MOST_SUPPORT_BYTES >> 20} MiB and is not kept with "
            "the model: --correct will need --support again"
        )
    if model.batch_norm == "transductive":
        notify(
            "batch_norm is 'transductive': what is predicted for an item depends on the items "
            "predicted with it; --batch-norm support makes it independent"
        )
    if as_json:
        origin = model.learned.origin
        echo_json({"model": str(out), "classes": dict(model.classes), "run": origin.run})
    elif model.classes:
        if is_multi_label:
            click.echo(f"{out}: {len(model.classes)} labels; items that have them:")
        else:
            source = f"{examples} examples" if examples else "their names, without examples"
            click.echo(f"{out}: {len(model.classes)} classes from {source}")
        for name, n in model.classes.items():
            click.echo(f"  {name}: {n}" if examples else f"  {name}")
    else:
        click.echo(f"{out}: adapted to the points")
