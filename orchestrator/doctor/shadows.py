"""Checks that nothing else is imported in the place of our packages."""

import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from orchestrator.doctor.finding import Finding, warn
from orchestrator.embedded.commands import IMPORT_ROOT

_PACKAGES: Final = ("contracts", "db", "experiments", "metafleet", "orchestrator", "workers")


def find_shadows(folder: Path, path: Sequence[str] | None = None) -> list[Finding]:
    """Look for modules of the user's that hide ours from a plain ``celery -A workers.app``.

    Args:
        folder: where it would be started; Celery looks there first.
        path: where Python looks for modules, by default ``sys.path``.
    """
    searched = [str(folder), *(sys.path if path is None else path)]
    # a folder without __init__.py hides nothing: Python prefers a package that comes later
    found = {name: PathFinder.find_spec(name, searched) for name in _PACKAGES}
    hiding = {
        name: Path(spec.origin)
        for name, spec in found.items()
        if spec is not None and spec.origin is not None
    }
    theirs = [
        str(origin.parent if origin.name == "__init__.py" else origin)
        for name, origin in hiding.items()
        if origin.parent != IMPORT_ROOT / name
    ]
    if not theirs:
        return []
    return [
        warn(
            "packages",
            f"{', '.join(theirs)} would be imported in the place of metafleet's own, which is in "
            f"{IMPORT_ROOT}",
            "start workers with `metafleet worker`, from which nothing hides them, or rename",
        )
    ]
