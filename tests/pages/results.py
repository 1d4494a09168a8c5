"""docs/reference/results.md: the text of results/results.md.in, with numbers of the ledger.

In the text, {{NAME LABEL}} stands for the mean of a meta-test over seeds with its interval,
{{table NAME ...}} for a table of results with the commands that repeat them, and {{made}} for the
commands that made all runs of the page.
"""

import re
from collections.abc import Iterable

from tests.pages.docstrings import table
from tests.pages.ledger import FOLDER, Result, read_ledger

TEXT = FOLDER / "results.md.in"
_FIELD = re.compile(r"\{\{([^{}]+)\}\}")
_NO_BREAK = "\u00a0"
_LABELS = ("nearest_prototype", "initialisation", "trained")


def render() -> str:
    """Return the page."""
    ledger, text = read_ledger(), TEXT.read_text()
    used = {word for field in _FIELD.findall(text) for word in field.split() if word in ledger}

    def fill(field: re.Match[str]) -> str:
        first, *rest = field[1].split()
        if first == "made":
            return _made([ledger[name] for name in ledger if name in used])
        if first == "table":
            return _results([ledger[name] for name in rest])
        (label,) = rest
        found = ledger[first].find(label)
        if found is None:
            raise ValueError(f"{TEXT.name}: no row of {first} has the test {label!r}")
        return found.replace(" ", _NO_BREAK)

    return _FIELD.sub(fill, text)


def _results(results: list[Result]) -> str:
    rows = [
        (
            f"`{one.name}`",
            *((one.find(label) or "").replace(" ", _NO_BREAK) for label in _LABELS),
            one.seeds.replace(",", f",{_NO_BREAK}"),
            one.wall_time.replace(" ", _NO_BREAK),
            one.code,
        )
        for one in results
    ]
    header = ("result", "raw", "before meta-training", "meta-trained", "seeds", "wall time", "code")
    return "\n".join([*table(*header, rows=rows), *_block(one.repeating for one in results)])


def _made(results: list[Result]) -> str:
    lines = [line for one in results for line in (one.preparing, one.command) if line]
    return "\n".join(_block(dict.fromkeys(lines)))


def _block(lines: Iterable[str]) -> list[str]:
    return ["```sh", *lines, "```"]
