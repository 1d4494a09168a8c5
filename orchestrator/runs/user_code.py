"""The versions of the user's own packages that a run uses: release, commit, and changes to it."""

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from metafleet.sources import imported_digest, note_import, package_of

_CLASS: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""A class as a configuration names it: "package.module:Class"."""

_TIMEOUT_S: Final = 5.0


def describe_user_code(
    config: Mapping[str, Any], allowed_packages: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return package -> its version, for each allowed package of which ``config`` names a class.

    A version has these keys:

    - "digest": digest of the package's sources, as this process imported them;
    - "release": version of the installed distribution; "" if there is none;
    - "commit": the commit of the git repository that has the package; "" if there is none;
    - "is_dirty": whether files of the package differ from the commit. Files that are not in the
      repository count, unless the repository ignores them.
    """
    names = {package_of(text) for text in _texts(config) if _CLASS.fullmatch(text)}
    found = {}
    for package in sorted(names & set(allowed_packages)):
        note_import(package)
        commit, is_dirty = _git_state(_place(package))
        found[package] = {
            "digest": imported_digest(package),
            "release": _release(package),
            "commit": commit,
            "is_dirty": is_dirty,
        }
    return found


def shown_version(version: Mapping[str, Any]) -> str:
    """Return a readable version: "0.2, commit 1a2b3c4d5e6f with changes, sources 0f1e2d3c"."""
    parts = [version["release"]] if version["release"] else []
    if version["commit"]:
        changes = " with changes" if version["is_dirty"] else ""
        parts.append(f"commit {version['commit'][:12]}{changes}")
    return ", ".join([*parts, f"sources {version['digest'][:8]}"])


def describe_changes(
    recorded: Mapping[str, Any] | None, now: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return a line for each package that differs from what was recorded; [] without a record."""
    return [
        f"package {package!r} was {shown_version(recorded[package])} when the run was created, and "
        f"is {shown_version(version)} now"
        for package, version in now.items()
        if recorded and package in recorded and recorded[package] != version
    ]


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _place(package: str) -> Path | None:
    """Return the folder of a package, or its file; None if it is neither."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    for folder in spec.submodule_search_locations or ():
        return Path(folder)
    return Path(spec.origin) if spec.has_location and spec.origin else None


def _release(package: str) -> str:
    for distribution in metadata.packages_distributions().get(package, ()):
        return metadata.version(distribution)
    return ""


def _git_state(place: Path | None) -> tuple[str, bool]:
    """Return the commit of a repository, and whether ``place`` has changes; ("", False) if none."""
    if place is None or not place.exists():
        return "", False
    folder = place if place.is_dir() else place.parent
    if _git(folder, "check-ignore", "--quiet", str(place)) is not None:
        return "", False  # for example a virtual environment inside a repository
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return "", False
    scope = ("--", str(place), ":(exclude,top,glob)**/__pycache__/**")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=all", *scope)
    return commit.strip(), bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of a git command; None if it fails, or if there is no git."""
    # GIT_DIR, as hooks of git have it, names another repository than that of the folder
    environment = {key: text for key, text in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
