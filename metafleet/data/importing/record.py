"""Records of imported folders: <data_dir>/imported/<name>.json.

A record stores how the folder is read, so that the folder can be read again. The record also stores
the name of the prepared data, so that hosts without the folder find these data.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metafleet.data.importing.options import FolderOptions
from metafleet.errors import ConfigError, DataCorruptError, DataError, DataMissingError
from metafleet.files import write_whole
from metafleet.locking import exclusive
from metafleet.options import option_values, parse_options

_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """One imported folder.

    Attributes:
        name: the name of the import.
        options: options with which the folder is read; ``path`` is absolute.
        prepared: name of the folder with its prepared data, in <data_dir>/prepared.
    """

    name: str
    options: FolderOptions
    prepared: str

    def changed_options(self) -> dict[str, Any]:
        """Return the options that are not at their defaults, as JSON values."""
        plain = option_values(FolderOptions())
        changed = {
            n: value for n, value in option_values(self.options).items() if value != plain[n]
        }
        return dict(json.loads(json.dumps(changed)))


def check_name(name: str) -> None:
    """Check that a name is a plain file name.

    Raises:
        ConfigError: the name is not allowed.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name {name!r}; expected up to 64 letters, digits, '.', '_' and '-'; give another "
            "with --name"
        )


def plain_name(path: Path) -> str:
    """Return an allowed name made from the name of a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:64] or "data"


def write_record(data_dir: Path, record: ImportRecord) -> None:
    """Write or replace a record atomically, unless another folder has the same name.

    Raises:
        ConfigError: the name was given to another folder in the meantime.
        DataError: the record cannot be written.
    """
    path = _path(data_dir, record.name)
    content = {
        "format": _FORMAT,
        "options": record.changed_options(),
        "prepared": record.prepared,
    }
    try:
        with exclusive(path.with_name(".lock")):
            require_free_name(data_dir, record.name, record.options.path)
            text = json.dumps(content, ensure_ascii=False, indent=1)
            is_open_to = path.parent.stat().st_mode & 0o644  # readable by all who read the folder
            write_whole(path, text.encode(), mode=is_open_to)
    except OSError as error:
        raise DataError(
            f"cannot write {path} ({error.strerror}); free space there or set METAFLEET_DATA_DIR"
        ) from error


def get_record(data_dir: Path, name: str) -> ImportRecord:
    """Read a record.

    Raises:
        DataMissingError: the record does not exist; the message lists the known names.
        DataCorruptError: the record is damaged.
    """
    record = find_record(data_dir, name)
    if record is None:
        known = ", ".join(imported_names(data_dir)) or "nothing"
        raise DataMissingError(
            f"no folder was imported as {name!r} into {data_dir} (but {known}); run "
            f"`metafleet data import FOLDER --name {name}`"
        )
    return record


def find_record(data_dir: Path, name: str) -> ImportRecord | None:
    """Read a record; return None if there is no record with this name.

    Raises:
        DataCorruptError: the record is damaged.
    """
    if not _NAME.fullmatch(name):
        return None
    path = _path(data_dir, name)
    try:
        content = json.loads(path.read_bytes())
        options = parse_options(FolderOptions, content["options"], where=f"import {name!r}")
        return ImportRecord(name, options, str(content["prepared"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataCorruptError(
            f"{path} is damaged ({error}); run `metafleet data import` again"
        ) from error


def require_free_name(data_dir: Path, name: str, path: str) -> None:
    """Check that no other folder has a name. The same folder may be imported again.

    Raises:
        ConfigError: the name is taken.
    """
    try:
        record = find_record(data_dir, name)
    except DataCorruptError:
        return  # it will be overwritten
    if record is not None and record.options.path != path:
        raise ConfigError(
            f"name {name!r} is that of {record.options.path}; give another with --name, or delete "
            f"{_path(data_dir, name)}"
        )


def imported_names(data_dir: Path) -> list[str]:
    """Return the names of all records, sorted."""
    return sorted(p.stem for p in (data_dir / "imported").glob("[!.]*.json"))


def _path(data_dir: Path, name: str) -> Path:
    return data_dir / "imported" / f"{name}.json"
