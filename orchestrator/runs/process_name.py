"""Names of processes, by which their own machine can tell whether they are still there."""

import os
import socket
import uuid
from hashlib import blake2b
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_ENDED: Final = ("Z", "X")
_STATE, _STARTED = 0, 19  # fields of /proc/PID/stat, counted from behind the command


def process_name() -> str:
    """Name this process for people, and apart from all others.

    "host:pid/space-start-nonce": a pid means a process only within its space, a kernel that runs
    and its namespace of pids, and only together with the time of its start.
    """
    pid = os.getpid()
    nonce = uuid.uuid4().hex[:8]
    return f"{socket.gethostname()}:{pid}/{_space()}-{_started(pid) or ''}-{nonce}"


def has_died(name: str) -> bool:
    """Return whether a process is known to have died: it was of this machine, and is not there.

    Of processes of other machines or containers nothing is known here.
    """
    place, _, rest = name.rpartition("/")
    parts, pid = rest.split("-"), place.rpartition(":")[2]
    if len(parts) != 3 or not pid.isdecimal() or not parts[0] or not parts[1]:
        return False
    return parts[0] == _space() and _started(int(pid)) != parts[1]


def _space() -> str:
    """Say where pids are ours; "" where this cannot be told."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return ""
    return blake2b(f"{boot} {namespace}".encode(), digest_size=6).hexdigest()


def _started(pid: int) -> str | None:
    """Return when a process started, in ticks since the kernel did; None when it is not there."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[_STATE] in _ENDED else fields[_STARTED]
