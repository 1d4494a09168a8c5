"""The stack file: how a second terminal finds the embedded stack of the first."""

import json
import os
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from metafleet.errors import ConfigError

SUPERVISOR_MODULE = "orchestrator.embedded.supervisor"


def write_stack_file(path: Path, stack: Mapping[str, Any]) -> None:
    """Write the file whole, readable by its owner alone, and never over another one.

    Raises:
        ConfigError: there is a stack file already.
    """
    # mkstemp makes the file with mode 0600
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".stack-")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(stack, file)
        os.link(name, path)
    except FileExistsError as error:
        raise ConfigError(_taken(path, _read(path))) from error
    finally:
        os.unlink(name)


def require_no_stack(path: Path) -> None:
    """Refuse to start a second stack over a living one.

    Raises:
        ConfigError: a stack runs already.
    """
    stack = _read(path)
    if stack is not None:
        raise ConfigError(_taken(path, stack))


def discard_stale_stack(path: Path, notify: Callable[[str], None]) -> None:
    """Delete the stack file of a supervisor that is gone, and say so."""
    stack = _read(path)
    if stack is None or stack.get("host") != socket.gethostname():
        return
    if not _is_supervisor(stack.get("pid")):
        path.unlink(missing_ok=True)
        notify(f"{path} was left by a stack that no longer runs (pid {stack.get('pid')}); deleted")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        stack = json.loads(path.read_text())
    except (OSError, ValueError):
        return None  # missing, or damaged: Settings.load names the latter
    return stack if isinstance(stack, dict) else None


def _is_supervisor(pid: object) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        # a process id is used again sooner or later, so the command line has to fit too
        return SUPERVISOR_MODULE in psutil.Process(pid).cmdline()
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False


def _taken(path: Path, stack: Mapping[str, Any] | None) -> str:
    pid = (stack or {}).get("pid")
    return (
        f"an embedded stack runs already (pid {pid}, {path}); use it, stop it with Ctrl-C in its "
        "terminal, or set METAFLEET_HOME to another folder"
    )
