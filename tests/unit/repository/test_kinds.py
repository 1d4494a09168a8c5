"""A decoder says what its kind of data is like, so a kind of a user's own can be like it."""

import ast
from collections.abc import Iterator
from pathlib import Path

from metafleet.data.decoding.registry import DECODERS
from tests.paths import REPOSITORY

DATA = REPOSITORY / "metafleet" / "data"
MAY_COMPARE = (DATA / "decoding", DATA / "sets")
"""Built-in sets compare the names of their own modalities, some of which are those of kinds."""


def compared(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                if isinstance(side, ast.Constant) and side.value in DECODERS:
                    yield f"{source.relative_to(REPOSITORY)}:{node.lineno}"


def test_a_kind_is_compared_with_the_name_of_one_by_decoders_alone() -> None:
    sources = [
        path
        for package in ("metafleet", "orchestrator", "workers", "contracts", "db")
        for path in (REPOSITORY / package).rglob("*.py")
        if not any(folder in path.parents for folder in MAY_COMPARE)
    ]
    assert len(sources) > 300
    assert [place for path in sources for place in compared(path)] == []
