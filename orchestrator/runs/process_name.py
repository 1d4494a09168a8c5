"""Unique names of processes, from which their own machine can tell whether they still run."""

import os
import socket
import uuid
from hashlib import blake2b
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_ENDED: Final = ("Z", "X")
_STATE, _STARTED = 0, 19  # fields of /proc/PID/stat after the command


def process_name() -> str:
    """Return a readable and unique name of this process: "host:pid/space-start-nonce".

    A pid alone does not identify a process, because pids are reused. The name therefore also has
    the start time of the process and its space. The space identifies the boot of the kernel and the
    namespace of pids.
    """
    pid = os.getpid()
    nonce = uuid.uuid4().hex[:8]
    return f"{socket.gethostname()}:{pid}/{_space()}-{_started(pid) or ''}-{nonce}"


def has_died(name: str) -> bool:
    """Return whether a process ran on this machine and no longer exists.

    Return False for a process of another machine or container, because it is unknown whether that
    process is alive.
    """
    place, _, rest = name.rpartition("/")
    parts, pid = rest.split("-"), place.rpartition(":")[2]
    if len(parts) != 3 or not pid.isdecimal() or not parts[0] or not parts[1]:
        return False
    return parts[0] == _space() and _started(int(pid)) != parts[1]


def _space() -> str:
    """Return a digest of boot id and pid namespace; "" if they cannot be read."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return ""
    return blake2b(f"{boot} {namespace}".encode(), digest_size=6).hexdigest()


def _started(pid: int) -> str | None:
    """Return a process's start time in ticks since boot; None if it does not run."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[_STATE] in _ENDED else fields[_STARTED]
