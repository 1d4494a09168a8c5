"""Escape CSV texts that a spreadsheet would evaluate: "=cmd|..." as the name of a class or file.

Writing puts a quote before such a text. Reading removes one quote, so every text comes back
unchanged, including texts that begin with quotes.
"""

import re

_COMPUTED = re.compile(r"'*[=+\-@\t\r]")
_QUOTED = re.compile(r"'+[=+\-@\t\r]")


def as_text(cell: str) -> str:
    """Return a cell that spreadsheets do not treat as a formula."""
    return f"'{cell}" if _COMPUTED.match(cell) else cell


def from_text(cell: str) -> str:
    """Undo ``as_text``."""
    return cell[1:] if _QUOTED.match(cell) else cell
