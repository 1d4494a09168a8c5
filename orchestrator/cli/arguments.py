"""Types of paths and run names on the command line."""

import errno
import os
from pathlib import Path
from typing import Any

import click

_LONGEST = 1024
_NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP)


class PathType(click.Path):
    """A valid path: not empty, without NUL, and not too long for the file system.

    The commands check whether it exists and can be read or written.
    """

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Refuse a path that every system call would reject."""
        text = os.fsdecode(value)
        if not text:
            self.fail("an empty path; expected the name of a file or folder", param, ctx)
        if "\0" in text:
            self.fail(f"{text!r:.80} has a NUL; expected a name without", param, ctx)
        try:
            os.lstat(text)
        except OSError as error:
            if error.errno in _NO_NAME:
                self.fail(f"{text!r:.80}: {(error.strerror or '').lower()}", param, ctx)
        return super().convert(value, param, ctx)


class OutputFile(PathType):
    """The path of a file to write; renaming the draft to it would replace even a device."""

    name = "file"

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Refuse an existing path that is not a regular file."""
        found = super().convert(value, param, ctx)
        if os.path.exists(found) and not os.path.isfile(found):
            self.fail(f"{str(found)!r:.80} is no plain file; choose another name", param, ctx)
        return found


class RunName(click.types.StringParamType):
    """A possible name of a run or a model: text without NUL, of limited length."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse a name that neither a database nor a file system can look up."""
        text = str(value)
        is_text = not any("\ud800" <= letter <= "\udfff" for letter in text)
        if not is_text or "\0" in text or not text or len(text) > _LONGEST:
            self.fail(f"{text!r:.80}; expected a name of up to {_LONGEST} letters", param, ctx)
        return text
