"""Escape CSV texts that a spreadsheet would evaluate: "=cmd|..." as the name of a class or file.

Such a text is written with a quote in front of it. Reading removes this quote. Every text is
therefore read back unchanged, even if the text itself begins with quotes.
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
