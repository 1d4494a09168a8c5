"""Texts in CSV that a spreadsheet would compute: "=cmd|..." as the name of a class or file.

A quote before them keeps spreadsheets from it. Reading takes one quote away again, so texts come
back as they were, those that begin with quotes of their own included.
"""

import re

_COMPUTED = re.compile(r"'*[=+\-@\t\r]")
_QUOTED = re.compile(r"'+[=+\-@\t\r]")


def as_text(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if _COMPUTED.match(cell) else cell


def from_text(cell: str) -> str:
    """Undo ``as_text``."""
    return cell[1:] if _QUOTED.match(cell) else cell
