"""The command that prepares the data of a row."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from metafleet.data.importing.folder import Folder
from metafleet.data.mixture import Mixture
from metafleet.data.registry import DATASETS, open_data
from metafleet.data.stored import StoredDataSet
from metafleet.tracking.flat import flat

PLACE: Final = "root"
"""Option of the place of the original data. It does not change the prepared data."""
_NOT_SET: Final = ("name", PLACE, "path", "imported")


def prepare_command(data: Mapping[str, Any]) -> str:
    """Return the shell command that prepares the data of a configuration.

    Return "" for data that Metafleet computes. In the command, FOLDER stands for a folder that the
    user must have.

    Args:
        data: the section ``data`` of a configuration.
    """
    dataset = DATASETS.get(data["name"])
    if isinstance(dataset, Mixture):
        parts = dataset.parts(open_data(data, Path()).options)
        return " && ".join(filter(None, [prepare_command(own) for _, _, own in parts]))
    if isinstance(dataset, Folder):
        imported = data.get("imported") or "NAME"
        return " ".join(["metafleet data import FOLDER --name", imported, *_options(data)])
    if not isinstance(dataset, StoredDataSet):
        return ""
    has_download = type(dataset).download is not StoredDataSet.download
    place = () if has_download else (f"--set {PLACE}=FOLDER",)
    return " ".join(["metafleet data prepare", data["name"], *_options(data), *place])


def without_place(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section ``data`` without the place of the original data."""
    return {key: value for key, value in data.items() if key != PLACE}


def _options(data: Mapping[str, Any]) -> list[str]:
    given = {key: value for key, value in flat(data).items() if key not in _NOT_SET}
    return [f"--set {shlex.quote(f'{key}={option_text(value)}')}" for key, value in given.items()]


def option_text(value: Any) -> str:
    """Return the value of an option as ``--set`` has it."""
    return value if isinstance(value, str) else json.dumps(value)
