"""docs/reference/folders.md says what the code does."""

import re
from typing import get_args

from metafleet.data.decoding.registry import DECODERS
from metafleet.data.importing.options import Layout
from metafleet.data.importing.problems import KINDS
from tests.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "reference" / "folders.md").read_text()


def first_cells(header: str) -> dict[str, str]:
    """First cell of every row of the table under ``header`` -> the row."""
    table = PAGE.split(header, 1)[1].split("\n\n", 1)[0]
    return dict(re.findall(r"^\| `([\w-]+)` \|(.*)$", table, flags=re.MULTILINE))


def test_every_kind_of_problem_is_on_the_page_as_the_code_explains_it() -> None:
    rows = first_cells("| kind of problem |")
    of_kinds = {f"bad-{kind}" for kind in DECODERS}

    assert set(rows) == set(KINDS) - of_kinds | {"bad-KIND"}
    assert all(meaning in rows.get(kind, meaning) for kind, meaning in KINDS.items())


def test_every_layout_is_on_the_page() -> None:
    assert set(first_cells("| layout |")) == set(get_args(Layout)) - {"auto"}
