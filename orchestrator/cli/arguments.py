"""Types of paths and run names on the command line."""

import errno
import math
import os
import re
from pathlib import Path
from typing import Any

import click

_LONGEST = 1024
_NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP)


class PathType(click.Path):
    """A valid path: not empty, without NUL, and not too long for the file system.

    Whether a path exists and can be read or written is checked by each command.
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
    """The path of a file to write. A draft is renamed to it, which would replace even a device.

    Args:
        suffixes: the allowed ends of the name, such as ".png"; empty for any.
    """

    name = "file"

    def __init__(self, *suffixes: str) -> None:
        super().__init__(dir_okay=False, path_type=Path)
        self._suffixes = suffixes

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Refuse an existing path that is not a regular file, and a suffix that is not allowed."""
        found = super().convert(value, param, ctx)
        text = os.fsdecode(found)
        if self._suffixes and not text.lower().endswith(self._suffixes):
            allowed = " or ".join(self._suffixes)
            self.fail(f"{text!r:.80}; expected a name that ends in {allowed}", param, ctx)
        if os.path.exists(found) and not os.path.isfile(found):
            self.fail(f"{str(found)!r:.80} is no plain file; choose another name", param, ctx)
        return found


class Share(click.types.FloatParamType):
    """A number strictly between 0 and 1."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Refuse a value that is not a number or is out of range. NaN is always out of range."""
        try:
            share = float(value)
        except ValueError:
            share = math.nan
        if not 0.0 < share < 1.0:
            self.fail(f"{value!r:.40}; expected a number between 0 and 1, such as 0.9", param, ctx)
        return share


class EpisodeSize(click.types.StringParamType):
    """Ways and shots of episodes, such as 5x1."""

    name = "waysxshots"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse a text such as "5x1" to a tuple of two whole numbers."""
        found = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", str(value))
        n_way, k_shot = (int(found[1]), int(found[2])) if found else (0, 0)
        if n_way < 2 or k_shot < 1:
            self.fail(f"{value!r:.40}; expected WAYSxSHOTS, such as 5x1", param, ctx)
        return n_way, k_shot


class RunName(click.types.StringParamType):
    """A possible name of a run or a model: text without NUL, of limited length."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse a name that neither a database nor a file system can look up."""
        text = str(value)
        is_text = not any("\ud800" <= letter <= "\udfff" for letter in text)
        if not is_text or "\0" in text or not text or len(text) > _LONGEST:
            self.fail(f"{text!r:.80}; expected a name of up to {_LONGEST} letters", param, ctx)
        return text
