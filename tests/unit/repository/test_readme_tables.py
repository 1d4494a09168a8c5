import dataclasses
import re
from typing import Any

import pytest
from pydantic import BaseModel

from metafleet.models.registry import MODELS
from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests.paths import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def rows() -> list[list[str]]:
    """Cells of every table row of the README; an empty first cell means: as above."""
    table = []
    first = ""
    for line in README.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            first = cells[0] or first
            table.append([first, *cells[1:]])
        else:
            first = ""
    return table


def documented(owner: str) -> dict[str, str]:
    """Key -> default of the rows of one table or option owner."""
    found = {}
    for cells in rows():
        if cells[0] == owner and len(cells) == 4:
            found |= defaults_of(cells[1], cells[2])
    return found


def defaults_of(names: str, values: str) -> dict[str, str]:
    """Key -> default of one row: of several keys there are several defaults, or one for all."""
    keys = re.findall(r"`(\w+)`", names)
    defaults = values.split(", ") if len(keys) > 1 and values else [values] * len(keys)
    return dict(zip(keys, defaults, strict=True))


def is_said(value: Any, shown: str) -> bool:
    """Return whether a table shows a default; what None stands for is said in words."""
    if value is None or shown.endswith("...`"):
        return True
    return shown.replace(", ", ",").strip("`") == toml_text(value).replace(", ", ",")


def toml_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(toml_text, value)) + "]"
    return repr(value)


def sections() -> list[tuple[str, type[BaseModel]]]:
    fields = ExperimentConfig.model_fields.items()
    return [
        (name, field.annotation)
        for name, field in fields
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    ]


@pytest.mark.parametrize(("name", "section"), sections(), ids=[name for name, _ in sections()])
def test_the_table_of_keys_is_that_of_the_code(name: str, section: type[BaseModel]) -> None:
    table = documented(f"`{name}`")

    assert set(table) == set(section.model_fields)
    for key, field in section.model_fields.items():
        if key in ("meta_train", "meta_val", "meta_test"):
            continue
        expected = "-" if field.is_required() else f"`{toml_text(field.default)}`"
        assert table[key] == expected, key


def option_owners() -> list[tuple[str, type]]:
    return [
        *((f"model `{name}`", MODELS[name].Options) for name in MODELS),
    ]


@pytest.mark.parametrize(
    ("owner", "options"), option_owners(), ids=[owner for owner, _ in option_owners()]
)
def test_the_table_of_options_is_that_of_the_code(owner: str, options: type) -> None:
    table = documented(owner)
    fields = {
        field.name: field.default if field.default_factory is dataclasses.MISSING else {}
        for field in dataclasses.fields(options)
    }

    assert set(table) == set(fields)
    for name, default in fields.items():
        assert is_said(default, table[name]), name
