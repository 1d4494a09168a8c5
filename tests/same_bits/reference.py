"""The reference: the bits of every case at one commit on one kind of processor."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.same_bits.computing import compute

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(__file__).with_name("reference.json")


def recorded() -> dict[str, Any]:
    """Return what is on record: the commit, the fingerprint, and each case's result."""
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def record(home: Path) -> None:
    """Compute this checkout's results and put them on record."""
    found = compute(ROOT, home)
    FILE.write_text(json.dumps({"commit": _git("rev-parse", "HEAD"), **found}, indent=1) + "\n")


def computed_at(commit: str, folder: Path) -> dict[str, Any]:
    """Compute the results of another commit, on this machine, in a worktree below ``folder``."""
    tree = folder / "tree"
    _git("worktree", "add", "--detach", str(tree), commit)
    try:
        return compute(tree, folder / "home")
    finally:
        shutil.rmtree(tree)
        _git("worktree", "prune")


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return a line for each case whose final bits differ."""
    return [
        f"{name}: {found['runs'][name]['sha256'][:12]}, expected {result['sha256'][:12]}"
        for name, result in expected["runs"].items()
        if found["runs"][name]["sha256"] != result["sha256"]
    ]


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
