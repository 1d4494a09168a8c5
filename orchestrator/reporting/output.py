"""Writing for people who may be gone: a reader that went away does not stop a run."""

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
    """Tell a person something that is no result: on standard error, if anybody reads it."""
    with suppress(OSError), unread_is_fine(sys.stderr):  # a disk may be full, a terminal gone
        click.echo(hint(text), err=True)


@contextmanager
def unread_is_fine(stream: TextIO) -> Iterator[None]:
    """Go on silently when nobody reads any more what the block writes to ``stream``."""
    try:
        yield
        stream.flush()
    except BrokenPipeError:
        silence(stream)


def show_all_characters(stream: TextIO) -> None:
    r"""Let ``stream`` write what its encoding lacks as \u5b57, as standard error does."""
    if isinstance(stream, io.TextIOWrapper):  # else it is a test's or an editor's, and takes all
        stream.reconfigure(errors="backslashreplace")


def silence(stream: TextIO) -> None:
    """Let ``stream`` lead nowhere; without this Python complains once more when it flushes."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def program() -> str:
    """Name the `metafleet` command as this user can type it."""
    if shutil.which("metafleet"):
        return "metafleet"
    script = Path(sys.executable).with_name("metafleet")
    if not script.exists():
        return f"{sys.executable} -m metafleet.orchestrator"
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)


def hint(text: str) -> str:
    """Write the commands that a text quotes, such as `metafleet up`, as this user can type them."""
    return text.replace("`metafleet ", f"`{program()} ")
