"""docs/reference/configuration.md: every key and option, with the meaning its docstring gives."""

import dataclasses
import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from metafleet.data.decoding.registry import DECODERS
from metafleet.data.importing.options import FolderOptions
from metafleet.data.registry import DATASETS
from metafleet.learners.gradient_steps import StepOptions
from metafleet.learners.registry import LEARNERS
from metafleet.models.registry import MODELS
from metafleet.options import TABLES
from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests.pages.docstrings import first_line, markdown, meanings_of, table

Row = tuple[str, str, str]
_HEAD = """# Configuration

An experiment is a TOML file. `--set table.key=value` overrides one key. An unknown key, a wrong
type or an impossible value is refused. The error names the file, the key and the value, and says
what was expected. A dash instead of a default means that the key is required. An empty default is
`None`; the meaning of the key then says what `None` stands for. Files to start from are in the
repository's folder `experiments`.

`make pages` writes this page from the code.
"""
_LEARNERS = """## Learners

Each learner's paper and equation are in [algorithms](algorithms.md).

### Inner steps

All learners that adapt by gradient steps have these options. If an option of a learner has another
default or meaning, the learner's own table says so.
"""


def render() -> str:
    """Return the page."""
    parts = (_sections(), _models(), _learners(), _data_sets(), _kinds())
    return "\n".join([_HEAD, *(line for part in parts for line in part)])


def _sections() -> Iterator[str]:
    sections = {
        name: field.annotation
        for name, field in ExperimentConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    yield "## The file\n"
    yield from _keys(ExperimentConfig)
    for name, section in sections.items():
        yield f"## `[{name}]`\n\n{first_line(section)}\n"
        yield from _keys(section)


def _keys(section: type[BaseModel]) -> Iterator[str]:
    meanings = meanings_of(section)
    rows = [
        (f"`{name}`", _default_of_key(field), meanings[name])
        for name, field in section.model_fields.items()
    ]
    yield from table("key", "default", "meaning", rows=_merged(rows))


def _default_of_key(field: FieldInfo) -> str:
    if field.is_required():
        return "-"
    return (
        ""
        if field.default is None or isinstance(field.default, BaseModel)
        else f"`{toml(field.default)}`"
    )


def _models() -> Iterator[str]:
    yield "## Models\n\nThe table `[model]` has `name` and these options.\n"
    for name, model in MODELS.items():
        yield f"### `{name}`\n\n{first_line(model)}\n"
        yield from _options(model.Options)


def _learners() -> Iterator[str]:
    yield _LEARNERS
    yield from _options(StepOptions)
    shared = set(_rows(StepOptions))
    for name, learner in LEARNERS.items():
        yield f"### `{name}`\n\n{first_line(learner)}\n"
        yield from _options(learner.Options, without=shared)


def _data_sets() -> Iterator[str]:
    yield "## Data sets\n\nThe table `[data]` has `name` and these options.\n"
    for name, dataset in sorted(DATASETS.items()):
        yield f"### `{name}`\n\n{dataset.title}. Licence: {dataset.licence}.\n"
        yield from _options(dataset.Options)


def _kinds() -> Iterator[str]:
    yield "## Kinds of data\n"
    yield "A table `[data.KIND]` of the data set `folder`, or `--set KIND.OPTION=VALUE`.\n"
    for kind, decoder in DECODERS.items():
        dtype, shape = decoder.example(decoder.Options())
        files = ", ".join(sorted(suffix[1:] for suffix in decoder.suffixes))
        yield f"### `{kind}`\n\n{first_line(type(decoder))}\n"
        yield f"Files: {files}. Stored as {dtype} {list(shape)} by default."
        yield f"`bad-{kind}`: {decoder.problem}.\n"
        yield from _options(decoder.Options)


def _options(options: type[Any], *, without: set[Row] | None = None) -> Iterator[str]:
    rows = [row for row in _rows(options) if row not in (without or set())]
    if rows:
        yield from table("option", "default", "meaning", rows=_merged(rows))
    else:
        yield "No options of its own.\n"


def _rows(options: type[Any]) -> list[Row]:
    meanings = meanings_of(options)
    if options is FolderOptions:
        meanings |= {kind: f"see [below](#{kind})" for kind in DECODERS}
    return [
        (f"`{name}`", _default_of_option(field), meanings[name])
        for field in dataclasses.fields(options)
        for name in field.metadata.get(TABLES, [field.name])
    ]


def _merged(rows: list[Row]) -> list[Row]:
    """Make one row of neighbours that differ in their names alone."""
    groups = groupby(rows, key=lambda row: row[1:])
    return [(", ".join(name for name, *_ in group), *same) for same, group in groups]


def _default_of_option(field: "dataclasses.Field[Any]") -> str:
    default = field.default
    if default is dataclasses.MISSING:
        if field.default_factory is dataclasses.MISSING:
            return "-"
        default = field.default_factory()
    return "" if default is None else f"`{markdown(toml(default))}`"


def toml(value: Any) -> str:
    """Return a default as a configuration would give it."""

    def plain(other: Any) -> dict[str, Any]:
        return {} if dataclasses.is_dataclass(other) else dict(other)

    return json.dumps(value, ensure_ascii=False, default=plain)
