"""Options of `metafleet adapt` that replace the run by pretrained encoders."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from metafleet.errors import ConfigError, DataError
from metafleet.inference.from_encoder import DEFAULT_HEAD, HEADS, few_shot_model, read_encoders
from metafleet.inference.learned_model import LearnedModel
from metafleet.learners.frozen_head import FrozenHead
from metafleet.orchestrator.cli.reading import is_model
from metafleet.orchestrator.config.source import apply_overrides
from metafleet.orchestrator.reporting.output import notify

_HEAD = "head"
_OPTIONS = (
    click.option(
        "--encoder",
        "encoders",
        multiple=True,
        metavar="KIND=NAME",
        help="In place of RUN: a pretrained encoder, e.g. image=package:efficientnet-lite0. "
        "With MODEL: where its encoder is now.",
    ),
    click.option(
        "--head",
        type=click.Choice(HEADS),
        help=f"What classifies the features of --encoder.  [default: {DEFAULT_HEAD}]",
    ),
    click.option(
        "--prompt",
        "prompts",
        multiple=True,
        metavar="TEXT",
        help="With a head that reads names of classes: a text in which {} is the name. Repeat for "
        "the mean over several.",
    ),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help="With --encoder: an option, e.g. audio.duration_s=2 or head.penalty=1.",
    ),
)


with_encoder_option = click.option(
    "--with-encoder",
    is_flag=True,
    help="Copy the encoder's weights into the model, for machines without them.",
)


moved_encoder_option = click.option(
    "--encoder",
    "encoders",
    multiple=True,
    metavar="MODALITY=NAME",
    help="Where the model's encoder is now, e.g. image=hf:~/vit; it must be the same encoder.",
)


classes_option = click.option(
    "--classes",
    metavar="NAMES|FILE",
    help="In place of --support, with --head zero_shot: names separated by commas, or a file with "
    "a name on each line.",
)


def encoder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for adapting without a run: encoders, head and assignments."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_classes(given: str) -> list[str]:
    """Return the class names in a list with commas, or in a file with one name per line.

    Raises:
        ConfigError: the text has no comma, and there is no file of this name.
        DataError: the file cannot be read as text.
    """
    path = Path(os.path.expanduser(given))
    if not os.path.isfile(path):
        if "," in given:
            return given.split(",")
        raise ConfigError(
            f"--classes {given!r:.80} is neither a file nor several names; give names separated by "
            "commas, or a file with a name on each line"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{given} cannot be read as text ({error!s:.80}); check it") from error
    return [line for line in text.splitlines() if line.strip()]


def require_one_base(
    base: str | None,
    encoders: Sequence[str],
    head: str | None,
    prompts: Sequence[str],
    assignments: Sequence[str],
) -> None:
    """Check that the base, the encoders and the encoder options can be used together.

    A base is a RUN or a MODEL. Without a base, encoders must be given. With a RUN, no encoders may
    be given. With a MODEL, encoders may be given, and say where the MODEL's own encoders are now.
    Other encoder options are allowed only without a base.

    Raises:
        ConfigError: the combination is not allowed.
    """
    if base is not None and encoders and not is_model(base):
        raise ConfigError(
            f"{base!r:.80} and --encoder {encoders[0]:.80}: a run has its own encoder; give one of "
            "the two"
        )
    if base is None and not encoders:
        raise ConfigError(
            "there is nothing to adapt; give a RUN or MODEL, or --encoder KIND=NAME to start "
            "without a run"
        )
    if base is not None and (head is not None or prompts or assignments):
        asked = {"--head": [head] if head else [], "--prompt": prompts, "--set": assignments}
        given = next(f"{name} {values[0]:.80}" for name, values in asked.items() if values)
        raise ConfigError(f"{given} goes with --encoder; RUN|MODEL has its own learner and options")


def learned_from_encoders(
    encoders: Sequence[str],
    head: str | None,
    prompts: Sequence[str],
    assignments: Sequence[str],
    *,
    allowed_packages: Sequence[str],
) -> LearnedModel:
    """Make a model that consists of encoders and a head, and print the model's parts.

    Raises:
        ConfigError, DataMissingError, DataCorruptError: for the same reasons as ``few_shot_model``.
    """
    named, chosen = read_encoders(encoders), head or DEFAULT_HEAD
    tables, _ = apply_overrides({}, assignments)
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"--set {key}={table}; expected KIND.OPTION=VALUE, such as audio.duration_s=2, or "
                "head.OPTION=VALUE"
            )
    of_head = tables.pop(_HEAD, {})
    model = few_shot_model(
        named,
        head=chosen,
        head_options=of_head,
        kind_options=tables,
        prompts=prompts,
        allowed_packages=allowed_packages,
    )
    told = ", ".join(f"{kind} by {name}" for kind, name in named.items())
    notify(f"{told}; head {chosen}, {_told(model)}; nothing is trained")
    return model


def _told(model: LearnedModel) -> str:
    """Describe what the head does before it compares features."""
    learner, names = model.learned.learner, model.learned.blueprint.class_text
    if names is not None:
        return f"names as {' and '.join(map(repr, names.prompts))}"
    is_centred = isinstance(learner, FrozenHead) and learner.options.centre != "none"
    return "centred on the support set" if is_centred else "not centred"
