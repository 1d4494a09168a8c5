"""Checks that nothing else is imported in metafleet's place."""

import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from metafleet.orchestrator.doctor.finding import Finding, warn
from metafleet.orchestrator.embedded.commands import IMPORT_ROOT


def find_shadows(folder: Path, path: Sequence[str] | None = None) -> list[Finding]:
    """Look for a ``metafleet`` of the user's that hides ours from a plain ``celery``.

    Args:
        folder: where it would be started; Celery looks there first.
        path: where Python looks for modules, by default ``sys.path``.
    """
    searched = [str(folder), *(sys.path if path is None else path)]
    # a folder without __init__.py hides nothing: Python prefers a package that comes later
    spec = PathFinder.find_spec("metafleet", searched)
    if spec is None or spec.origin is None:
        return []
    origin = Path(spec.origin)
    if origin.parent == IMPORT_ROOT / "metafleet":
        return []
    theirs = origin.parent if origin.name == "__init__.py" else origin
    return [
        warn(
            "packages",
            f"{theirs} would be imported in the place of the metafleet in {IMPORT_ROOT}",
            "start workers with `metafleet worker`, from which nothing hides it, or rename",
        )
    ]
