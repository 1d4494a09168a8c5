"""The stack file: how a second terminal finds the embedded stack of the first."""

import json
import os
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metafleet.errors import ConfigError

SUPERVISOR_MODULE = "metafleet.orchestrator.embedded.supervisor"


def write_stack_file(path: Path, stack: Mapping[str, Any]) -> None:
    """Write the stack file atomically. Only its owner can read it.

    Raises:
        ConfigError: there is a stack file already. It is not replaced.
    """
    # mkstemp creates the file with mode 0600
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".stack-")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(stack, file)
        os.link(name, path)
    except FileExistsError as error:
        raise ConfigError(_taken(path, read_stack(path))) from error
    finally:
        os.unlink(name)


def require_no_stack(path: Path) -> None:
    """Refuse to start a second stack.

    Raises:
        ConfigError: a stack is already running.
    """
    stack = read_stack(path)
    if stack is not None:
        raise ConfigError(_taken(path, stack))


def read_stack(path: Path) -> dict[str, Any] | None:
    """Read the stack file; None if missing or damaged (Settings.load reports the latter)."""
    try:
        stack = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return stack if isinstance(stack, dict) else None


def is_alive(stack: Mapping[str, Any]) -> bool:
    """Return whether the stack's supervisor runs; assume so if it is on another host."""
    pid = stack.get("pid")
    if stack.get("host") != socket.gethostname():
        return True
    if not isinstance(pid, int):
        return False
    import psutil  # noqa: PLC0415 - most commands find no stack, and start faster without it

    try:
        # process ids are reused, so check the command line too
        return SUPERVISOR_MODULE in psutil.Process(pid).cmdline()
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False


def discard_stale_stack(path: Path, notify: Callable[[str], None]) -> None:
    """Delete the stack file of a supervisor that no longer runs, and notify the user."""
    stack = read_stack(path)
    if stack is not None and not is_alive(stack):
        path.unlink(missing_ok=True)
        notify(f"{path} was left by a stack that no longer runs (pid {stack.get('pid')}); deleted")


def _taken(path: Path, stack: Mapping[str, Any] | None) -> str:
    pid = (stack or {}).get("pid")
    return (
        f"an embedded stack runs already (pid {pid}, {path}); use it, stop it with Ctrl-C in its "
        "terminal, or set METAFLEET_HOME to another folder"
    )
