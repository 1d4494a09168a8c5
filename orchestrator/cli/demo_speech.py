"""`metafleet demo speech`: makes a classifier from a folder of sounds, without any training."""

import shlex
import time
from pathlib import Path

import click
from rich.console import Console

from metafleet.contracts.private_files import private_files
from metafleet.encoders.registry import get_encoder
from metafleet.errors import DataError
from metafleet.orchestrator.cli.adapt import adapt
from metafleet.orchestrator.cli.context import load_settings
from metafleet.orchestrator.cli.demo_sounds import WORDS, write_sounds
from metafleet.orchestrator.cli.predict import predict
from metafleet.orchestrator.reporting.output import program

_ENCODER = "package:speech-embedding"
_AUDIO = f"audio={_ENCODER}"
_KNOWN, _ASKED = 5, 10


@click.command()
def speech() -> None:
    """Turn a folder of sounds into a classifier in seconds, with a pretrained encoder and no run.

    The demo writes a folder of synthetic words, adapts to five examples of each word, and labels
    the same words in other voices. It shows the commands, so that you can use them with a folder of
    your own.

    \b
    metafleet demo speech
    """
    get_encoder(_ENCODER, kind="audio").identity()  # says what to install, before anything is made
    folder = load_settings().home / "demo" / "speech"
    started = time.monotonic()
    with private_files():
        _make_and_use(folder)
    took_s = time.monotonic() - started
    _say(f"done in {took_s:.0f} s. On folders of your own, with a subfolder for each class:")
    command = program()
    click.echo(f"  {command} adapt --encoder {_AUDIO} --support FOLDER --out MODEL")
    click.echo(f"  {command} predict MODEL OTHER-FOLDER --out labels.csv")


def _make_and_use(folder: Path) -> None:
    """Write sounds to a folder, make a model of some, and label the others."""
    _say(f"1. sounds: {len(WORDS)} words, made by a formula (vowels that glide), not recordings")
    try:
        known, asked = write_sounds(folder, n_known=_KNOWN, n_asked=_ASKED)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror or error}); free space, or set "
            "METAFLEET_HOME to another folder"
        ) from error
    model = folder / "words.model"
    _say(f"2. adapt: {_KNOWN} examples of each word, in low voices; nothing is trained")
    _run(adapt, "adapt", "--encoder", _AUDIO, "--support", known, "--out", model, "--force")
    _say(f"3. predict: {_ASKED} of each word, in higher voices")
    _run(predict, "predict", model, asked, "--out", folder / "labels.csv", "--force")


def _say(text: str) -> None:
    Console(stderr=True).print(text, style="bold", highlight=False, soft_wrap=True)


def _run(command: click.Command, *words: object) -> None:
    arguments = [str(word) for word in words]
    click.echo(f"$ {program()} {shlex.join(arguments)}")
    command.main(arguments[1:], standalone_mode=False)
