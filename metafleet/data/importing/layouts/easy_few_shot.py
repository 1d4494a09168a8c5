"""easy-few-shot-learning's JSON: {"class_names": [...], "class_roots": [...]}, one per split.

That library resolves roots relative to its working directory. Here, roots are relative to the
folder of the JSON file. If a root does not exist, its leading folders are dropped until the rest
exists. For example, "./data/CUB/images/025.Jaeger" may become images/025.Jaeger.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from metafleet.data.importing.item import Item
from metafleet.data.importing.layouts.class_folders import read_class
from metafleet.data.importing.layouts.split_names import find_split
from metafleet.data.importing.layouts.walking import files_below
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.reader import Found, Place

_KEYS = ("class_names", "class_roots")


def is_specification(path: Path) -> bool:
    """Return whether a JSON file is a specification, complete or not."""
    try:
        with path.open("rb") as handle:
            start = handle.read(1 << 16)
    except OSError:
        return False
    return b'"class_names"' in start or b'"class_roots"' in start


def read_easy_few_shot(place: Place, log: ProblemLog) -> Found:
    """Read the classes of each JSON file; the name train, val or test gives its split."""
    items: list[Item] = []
    labels: list[str] = []
    for name in place.files:
        split = find_split(PurePosixPath(name).stem)
        for label, root in _classes(place, name, log):
            labels.append(label)
            folder = _find_root(place.folder, PurePosixPath(name).parent, root)
            if folder is None:
                log.add(
                    "missing-file",
                    name,
                    f"class {label!r} has the root {root!r}, which is no folder in {place.folder}",
                )
                continue
            files = files_below(place.folder, folder, log)
            items += list(read_class(files, place, log, label=label, split=split))
    return Found(items, [f"read {', '.join(place.files)}"], labels=tuple(labels))


def _classes(place: Place, name: str, log: ProblemLog) -> list[tuple[str, str]]:
    try:
        values = json.loads((place.folder / name).read_bytes())
    except OSError as error:
        log.add_fatal("unreadable-file", name, f"cannot be opened ({error.strerror})")
        return []
    except (ValueError, RecursionError) as error:
        log.add_fatal("bad-manifest", name, f"is not JSON ({error})")
        return []
    names, roots = (_texts(values, key) for key in _KEYS)
    if names is None or roots is None:
        log.add_fatal("bad-manifest", name, "expected lists of texts class_names and class_roots")
        return []
    if len(names) != len(roots):
        log.add_fatal(
            "bad-manifest",
            name,
            f"has {len(names)} class_names and {len(roots)} class_roots; expected as many",
        )
        return []
    return list(zip(names, roots, strict=True))


def _texts(values: Any, key: str) -> list[str] | None:
    """Return the list of texts under ``key``; None if the value is not one."""
    texts = values.get(key) if isinstance(values, dict) else None
    is_list = isinstance(texts, list) and all(isinstance(text, str) and text for text in texts)
    return texts if is_list else None


def _find_root(folder: Path, base: PurePosixPath, root: str) -> str | None:
    """Return the folder that the longest possible tail of ``root`` names; None if none exists."""
    parts = [part for part in PurePosixPath(root.replace("\\", "/")).parts if part not in "/."]
    for start in range(len(parts)):
        name = base.joinpath(*parts[start:])
        if ".." not in name.parts and (folder / name).is_dir():
            return str(name)
    return None
