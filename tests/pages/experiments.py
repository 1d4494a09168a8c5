"""experiments/README.md: every file there, with its description."""

import tomllib
from collections.abc import Iterator

from tests.pages.docstrings import table
from tests.paths import REPOSITORY

FOLDER = REPOSITORY / "experiments"
_HEAD = """# Experiments

Each file describes an experiment and is ready to run, for example with `metafleet submit
experiments/demo.toml`. To make an experiment of your own, copy a file and change it.
[Configuration](../docs/reference/configuration.md) lists every key and option.

`make pages` writes this page from the files.
"""
_PAPER = """## Published set-ups

These files repeat experiments from papers. The page
[Results of training from scratch](../docs/reference/results-from-scratch.md) compares the
accuracies and errors that we measured with the published ones.
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
