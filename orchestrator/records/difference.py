"""How the configuration of a run differs from its parent's, or from the experiment's file."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from metafleet.experiments import FOLDER
from metafleet.tracking.flat import flat

_DEFAULTS: Final = Path(__file__).with_name("defaults.json")
"""The default of every key that has one. A test compares it with the configuration's sections."""
_OF_THE_RUN: Final = ("seed",)
"""Keys that are not part of the difference."""


@dataclass(frozen=True, slots=True)
class Change:
    """A key whose value differs. A value is None where the key is missing."""

    key: str
    before: Any
    after: Any


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the keys, in alphabetical order, whose values differ between two configurations."""
    old, new = flat(before), flat(after)
    keys = sorted({*old, *new}.difference(_OF_THE_RUN))
    return tuple(
        Change(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)
    )


def shipped_config(experiment: str) -> dict[str, Any] | None:
    """Return the configuration of a shipped experiment; None if no shipped one has this name.

    Keys that the experiment's file leaves out have their default values.
    """
    known = {path.stem: path for path in FOLDER.rglob("*.toml")}
    if experiment not in known:
        return None
    tree = tomllib.loads(known[experiment].read_text(encoding="utf-8"))
    tree.pop("sweep", None)  # not part of a run
    return {**_merged(_defaults(), tree)}


@cache
def _defaults() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_DEFAULTS.read_text(encoding="utf-8"))
    return found


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for key, value in below.items():
        if isinstance(value, Mapping) and isinstance(above.get(key), Mapping):
            merged[key] = _merged(value, above[key])
    return merged
