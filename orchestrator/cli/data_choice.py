"""The arguments NAME and --set, with which a command chooses a data set."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from metafleet.contracts.settings import Settings
from metafleet.data import registry
from metafleet.data.bound import BoundData
from metafleet.data.importing.record import find_record, imported_names
from metafleet.errors import ConfigError
from metafleet.orchestrator.config.source import apply_overrides

_CLASS_NAME: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

data_set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="OPTION=VALUE",
    help="An option of the data set, e.g. --set split=lake or --set rotations=true.",
)


def data_options(name: str, assignments: tuple[str, ...]) -> dict[str, Any]:
    """Return the name and options of a data set, as in a configuration's ``[data]`` table.

    Raises:
        ConfigError: there is no such data set, or an assignment cannot be parsed.
    """
    # `submit` needs the prefix "data."; here it is optional
    overrides = [f"data.{each.strip().removeprefix('data.')}" for each in assignments]
    tree, _ = apply_overrides({"data": _named(name)}, overrides)
    return dict(tree["data"])


def open_chosen(options: Mapping[str, Any], settings: Settings) -> BoundData:
    """Bind the data set to its options. Raises the errors of ``open_data``."""
    allowed = settings.allowed_packages
    return registry.open_data(options, settings.data_dir, allowed_packages=allowed)


def _named(name: str) -> dict[str, Any]:
    """Return the options that select a data set: built-in, a class, imported, or a folder."""
    if name in registry.DATASETS or _CLASS_NAME.fullmatch(name):
        return {"name": name}
    if find_record(Settings.load().data_dir, name) is not None:
        return {"name": "folder", "imported": name}
    if Path(name).expanduser().exists() or "/" in name:  # prepared data work without the folder
        return {"name": "folder", "path": str(Path(name).expanduser().absolute())}
    built_in = ", ".join(sorted(registry.DATASETS))
    imported = ", ".join(imported_names(Settings.load().data_dir)) or "nothing"
    raise ConfigError(
        f"there is no data set {name!r}, and no folder of that path; expected a folder, or one of: "
        f"{built_in}; imported here: {imported}"
    )
