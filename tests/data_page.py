"""Writes docs/data-options.md from the code: ``python -m tests.data_page``; a test holds it so.

What an option means is what its dataclass says under "Attributes".
"""

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metafleet.data.decoding.registry import DECODERS
from metafleet.data.importing.options import FolderOptions
from metafleet.data.registry import DATASETS

PAGE = Path(__file__).parents[1] / "docs" / "data-options.md"
_HEAD = """# Data sets and kinds of data, with their options

Written by `make pages`, held to the code by a test. `metafleet data list` says the same of data
sets, and which of them are ready.
"""


def render() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *_data_sets(), *_kinds()])


def _data_sets() -> Iterator[str]:
    yield "## Data sets\n\nA table `[data]` has `name` and these options.\n"
    for name, dataset in sorted(DATASETS.items()):
        yield f"### `{name}`\n\n{dataset.title}. Licence: {dataset.licence}.\n"
        yield from _options(dataset.Options)


def _kinds() -> Iterator[str]:
    yield "## Kinds of data\n"
    yield "A table `[data.KIND]` of the data set `folder`, or `--set KIND.OPTION=VALUE`.\n"
    for kind, decoder in DECODERS.items():
        does = (inspect.getdoc(type(decoder)) or "").splitlines()[0]
        dtype, shape = decoder.example(decoder.Options())
        files = ", ".join(sorted(suffix[1:] for suffix in decoder.suffixes))
        yield f"### `{kind}`\n\n{does}\n"
        yield f"Files: {files}. Stored as {dtype} {list(shape)} by default."
        yield f"`bad-{kind}`: {decoder.problem}.\n"
        yield from _options(decoder.Options)


def _options(options: type[Any]) -> Iterator[str]:
    meanings = _meanings(inspect.getdoc(options) or "")
    yield "| option | default | meaning |\n|---|---|---|"
    for field in dataclasses.fields(options):
        default = field.default
        if default is dataclasses.MISSING:
            default = field.default_factory()  # type: ignore[misc] # every option has one of both
        is_kind = options is FolderOptions and field.name in DECODERS
        meaning = f"see [below](#{field.name})" if is_kind else meanings[field.name]
        yield f"| `{field.name}` | `{_toml(default)}` | {meaning} |"
    yield ""


def _meanings(docstring: str) -> dict[str, str]:
    """Return option -> what it means; of options that are told of together, of each."""
    _, _, attributes = docstring.partition("Attributes:\n")
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \w)", f"\n{attributes}"):
        names, _, text = entry.strip().partition(": ")
        told = " ".join(text.split()).replace("``", "`").replace("|", "\\|")
        found |= dict.fromkeys(names.split(", "), told)
    return found


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    PAGE.write_text(render())
