"""docs/reference/settings.md: the environment variables, as ``Settings`` describes them."""

import dataclasses
import re

from metafleet.contracts.settings import Settings
from tests.pages.docstrings import meanings_of, table

_HEAD = """# Settings

Environment variables say where the parts of a deployment are. An option on the command line
overrides the environment. The environment overrides the settings that `metafleet up` wrote, and
these override the defaults.

`make pages` writes this page from the code.
"""


def render() -> str:
    """Return the page."""
    meanings = meanings_of(Settings)
    rows = []
    for field in dataclasses.fields(Settings):
        found = re.fullmatch(r"(METAFLEET_[A-Z_]+); (.+)", meanings[field.name])
        assert found is not None, f"the docstring of Settings names no variable of {field.name}"
        rows.append((f"`{found[1]}`", found[2]))
    return "\n".join([_HEAD, *table("variable", "meaning", rows=rows)])
