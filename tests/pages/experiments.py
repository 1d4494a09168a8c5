"""experiments/README.md: every file there, with its description."""

import tomllib
from collections.abc import Iterator

from tests.pages.docstrings import table
from tests.paths import REPOSITORY

FOLDER = REPOSITORY / "experiments"
_HEAD = """# Experiments

Each file is ready to run: `metafleet submit experiments/demo.toml`. Copy one to make your own; the
[configuration](../docs/reference/configuration.md) lists every key and option.

`make pages` writes this page from the files.
"""
_PAPER = """## Published set-ups

[Results](../docs/reference/results.md) compares what they reach with the published figures.
"""


def render() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *_list(""), _PAPER, *_list("paper/")])


def _list(folder: str) -> Iterator[str]:
    rows = []
    for path in sorted((FOLDER / folder).glob("*.toml")):
        description = tomllib.loads(path.read_text())["description"]
        rows.append((f"[`{path.name}`]({folder}{path.name})", description))
    yield from table("file", "what it runs", rows=rows)
