"""Checks of this machine: versions, devices, disk, data, the embedded stack."""

import platform
import shutil
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from itertools import filterfalse
from pathlib import Path

import torch

from metafleet.contracts.device import describe_device, resolve_device
from metafleet.contracts.private_files import private_files
from metafleet.contracts.settings import Settings
from metafleet.contracts.version import code_version
from metafleet.data.prepared.received import measure_received, received_folder
from metafleet.data.registry import DATASETS, is_made_of_parts, open_data
from metafleet.errors import ConfigError
from metafleet.orchestrator.doctor.encoders import check_encoders
from metafleet.orchestrator.doctor.finding import Finding, fail, ok, run_check, warn
from metafleet.orchestrator.embedded.commands import IMPORT_ROOT
from metafleet.orchestrator.embedded.server_binary import find_server
from metafleet.orchestrator.embedded.stack_file import is_alive, read_stack
from metafleet.orchestrator.reporting.figures import counted

_GIB = 1 << 30
_ENOUGH_BYTES = 2 * _GIB
_TOO_LITTLE_BYTES = _GIB // 4


def check_machine(settings: Settings) -> list[Finding]:
    """Check everything that needs no server."""
    checks = {
        "versions": lambda: [_versions()],
        "packages": lambda: find_shadows(Path.cwd()),
        "device": lambda: [_device(settings)],
        "home": lambda: [_home(settings.home)],
        "data": lambda: _data(settings),
        "encoders": check_encoders,
        "stack": lambda: [_stack(settings)],
    }
    return [finding for topic, check in checks.items() for finding in run_check(topic, check)]


def _versions() -> Finding:
    return ok(
        "versions",
        f"metafleet {code_version()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}",
    )


def _device(settings: Settings) -> Finding:
    device = resolve_device(settings.device)
    return ok("device", f"workers started here compute on {describe_device(device)}")


def _home(home: Path) -> Finding:
    try:
        probe = home / ".doctor"
        with private_files():
            home.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"x")
        probe.unlink()
        free = shutil.disk_usage(home).free
    except OSError as error:
        return fail(
            "home", f"{home} cannot be written ({error.strerror})", "set METAFLEET_HOME elsewhere"
        )
    text = f"{home} has {free / _GIB:.1f} GiB free"
    if free < _TOO_LITTLE_BYTES:
        return fail("home", text, "free some space, or set METAFLEET_HOME to another disk")
    if free < _ENOUGH_BYTES:
        return warn("home", text, "checkpoints and data may not fit; free some space")
    return ok("home", text)


def _data(settings: Settings) -> list[Finding]:
    findings = []
    for name in filterfalse(is_made_of_parts, DATASETS):
        if open_data({"name": name}, settings.data_dir).is_ready():
            findings.append(ok("data", f"{name} is ready"))
        else:
            findings.append(
                warn("data", f"{name} is not here", f"`metafleet data prepare {name}` gets it")
            )
    n_copies, n_bytes = measure_received(settings.data_dir)
    if n_copies:
        text = (
            f"{received_folder(settings.data_dir)} keeps {counted(n_copies, 'received data set')}, "
            f"{n_bytes / 1e6:.1f} MB; workers delete what is unused for {settings.received_days} "
            "days (METAFLEET_RECEIVED_DAYS)"
        )
        findings.append(ok("data", text))
    return findings


def _stack(settings: Settings) -> Finding:
    stack = read_stack(settings.stack_file)
    if stack is not None and is_alive(stack):
        return ok("stack", f"an embedded stack runs here (pid {stack.get('pid')})")
    if stack is not None:
        return warn(
            "stack",
            f"{settings.stack_file} was left by a stack that no longer runs",
            "delete it; any other command does so too",
        )
    try:
        binary = find_server()
    except ConfigError as error:
        return warn("stack", str(error), "without it `metafleet up` and `demo` cannot start")
    return ok("stack", f"`metafleet up` would run {binary.path} {binary.version}")


def find_shadows(folder: Path, path: Sequence[str] | None = None) -> list[Finding]:
    """Find a user's module ``metafleet`` that a plain ``celery`` would import instead of ours.

    Args:
        folder: the folder in which Celery would be started. Celery searches this folder first.
        path: Python's search path, by default ``sys.path``.
    """
    searched = [str(folder), *(sys.path if path is None else path)]
    # a folder without __init__.py hides nothing: Python prefers a later package
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
