"""The version of the running code: its release, and the commit if it runs from a checkout."""

import functools
import subprocess
from importlib import metadata
from pathlib import Path


@functools.cache
def code_version() -> str:
    """Return the code's version: "1.2.0", or "1.2.0+g1a2b3c4d5e6f[.dirty]" from a checkout."""
    try:
        release = metadata.version("metafleet")
    except metadata.PackageNotFoundError:
        release = "unknown"
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return release
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=.dirty", "--abbrev=12", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return release
    return f"{release}+g{described}"
