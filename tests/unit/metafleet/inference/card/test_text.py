"""Whatever a name or an option holds, YAML, TOML and Markdown give it back."""

import tomllib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from metafleet.inference.card.text import code, fenced, plain, table, to_toml, to_yaml

WORDS = st.sampled_from(["true", "No", "null", "off", "y", "1e3", "-", "a: b", "# c", "~", "="])
TEXTS = st.text(st.characters(exclude_categories=("Cs",))) | WORDS
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)
TABLES = st.dictionaries(TEXTS, VALUES, max_size=4)


@given(TABLES)
def test_yaml_gives_back_what_was_written(values: dict[str, object]) -> None:
    assert yaml.safe_load(to_yaml(values) if values else "{}") == values


@given(TABLES)
def test_toml_gives_back_what_was_written(values: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(values)) == values


def test_yaml_writes_lists_of_tables_as_people_do() -> None:
    values = {"results": [{"task": {"type": "a"}, "id": 1e-05}, {"task": {}, "id": []}]}

    assert to_yaml(values) == (
        "results:\n  - task:\n      type: a\n    id: 1.0e-05\n  - task: {}\n    id: []\n"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    {
        "a | b": r"a \| b",
        "two\nlines": "two lines",
        "<script>": "&lt;script>",
        "*bold* `code`": r"\*bold\* \`code\`",
        "[a](b)": r"\[a\](b)",
        "größe": "größe",
        "\u202egnp": r"\u202egnp",
    }.items(),
)
def test_markdown_shows_a_name_as_it_is(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_no_name_ends_code() -> None:
    assert code("a`b\n# c") == "`a'b # c`"
    assert fenced("sh", ["a", "```", "# b"]) == "````sh\na\n```\n# b\n````"


def test_a_table_has_a_line_for_each_row() -> None:
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
