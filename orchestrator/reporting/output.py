"""Writes to terminals and pipes; a reader that closed them does not stop a run."""

import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import click


def notify(text: str) -> None:
    """Print a message that is not a result on standard error; ignore a closed stream."""
    with (
        suppress(OSError),
        unread_is_fine(sys.stderr),
    ):  # the disk may be full, or the terminal gone
        click.echo(hint(text), err=True)


@contextmanager
def unread_is_fine(stream: TextIO) -> Iterator[None]:
    """Ignore a broken pipe when the block writes to ``stream``."""
    try:
        yield
        stream.flush()
    except BrokenPipeError:
        silence(stream)


def show_all_characters(stream: TextIO) -> None:
    r"""Escape characters that ``stream`` cannot encode as \u5b57, as standard error does."""
    if isinstance(
        stream, io.TextIOWrapper
    ):  # otherwise a test or an editor replaced it; it takes all
        stream.reconfigure(errors="backslashreplace")


def silence(stream: TextIO) -> None:
    """Redirect ``stream`` to the null device, so that Python's last flush raises no error."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def program() -> str:
    """Return the `metafleet` command as this user can type it."""
    if shutil.which("metafleet"):
        return "metafleet"
    script = Path(sys.executable).with_name("metafleet")
    if not script.exists():
        return f"{sys.executable} -m metafleet.orchestrator"
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)


def hint(text: str) -> str:
    """Replace quoted commands, such as `metafleet up`, by what this user can type."""
    return text.replace("`metafleet ", f"`{program()} ")
