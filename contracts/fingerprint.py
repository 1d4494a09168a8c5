"""A numerics fingerprint: processes with equal fingerprints compute the same bits."""

import functools
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F

import metafleet.errors
from metafleet.errors import FingerprintError
from metafleet.execution.compiler import compiler_version
from metafleet.params import digest
from metafleet.sources import STALE, disk_digest, folder_digest, imported_digest

_COMPILER: Final = "compiler"
PACKAGE: Final = "package "
"""Prefix of a user package's key. The value is a digest of the imported sources."""

LIBRARY: Final = "library "
"""Prefix of a library's key. The value is a version."""

_NOT_COMPUTING: Final = ("orchestrator", "db", "experiments")


def fingerprint(device: str = "cpu") -> dict[str, str]:
    """Return everything that is known to affect the bits of this process's arithmetic.

    Call it after ``torch.set_num_threads`` and similar settings. The keys are:
        torch: release of torch.
        code: release of metafleet, and a digest of the sources that compute shards.
        threads: number of torch's threads.
        cpu: instruction set of torch's own kernels.
        probe: digest of a small convolution's bits, which also depend on oneDNN's instruction set.
        device: "cpu", or the GPU's name with CUDA and cuDNN versions.
        compiler: the C++ compiler's release, only if gradients are compiled.
        deterministic: torch's switch for deterministic algorithms.
        precision: torch's switches for reduced precision.
    """
    is_cuda = torch.device(device).type == "cuda"
    threads = torch.get_num_threads()
    return {
        "torch": torch.__version__,
        "code": _code(),
        "threads": str(threads),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "probe": _probe(device, threads),
        "device": _gpu(device) if is_cuda else "cpu",
        "deterministic": str(torch.are_deterministic_algorithms_enabled()).lower(),
        "precision": _precision(is_cuda),
    }


def fingerprint_text(
    device: str = "cpu", *, compiles: bool = False, code: Mapping[str, str] | None = None
) -> str:
    """Return the fingerprint as one line of JSON with sorted keys.

    Args:
        device: the compute device.
        compiles: whether gradients are computed by programs that this host compiles. If True, the
            fingerprint includes the compiler.
        code: entries for the packages and libraries that the work uses, from ``describe_code``.

    Raises:
        ConfigError: ``compiles`` is true, but there is no compiler.
    """
    found = fingerprint(device) | dict(code or {})
    if compiles:
        found[_COMPILER] = compiler_version()
    return json.dumps(found, sort_keys=True)


def differences(wanted: str, found: str) -> dict[str, tuple[str, str]]:
    """Return key -> (wanted, found) for the keys whose values differ between two fingerprints.

    If only one of the two fingerprints has a key, this key is ignored. For example, evaluations are
    not compiled, and older records have fewer keys. If ``wanted`` is "", there are no differences.
    """
    first, second = _parsed(wanted), _parsed(found)
    if first is None or second is None:
        return {} if wanted == found else {"fingerprint": (wanted, found)}
    shared = sorted(first.keys() & second.keys())
    return {key: (first[key], second[key]) for key in shared if first[key] != second[key]}


def merged(known: str, more: str) -> str:
    """Add the keys that only ``more`` has to the fingerprint ``known``. Both are JSON texts."""
    return json.dumps((_parsed(more) or {}) | (_parsed(known) or {}), sort_keys=True)


def _parsed(text: str) -> dict[str, str] | None:
    """Parse a fingerprint; {} for "", None if the text is not a fingerprint."""
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def explain(found: Mapping[str, tuple[str, str]]) -> str:
    """Describe in one line what ``differences`` found and how to fix it."""
    told = [f"{_title(key)} is {own} but the run has {run}" for key, (run, own) in found.items()]
    return f"{', '.join(told)}; {_advice(found)}"


def require_numerics(wanted: str, found: str) -> None:
    """Require that a process has the numerics of the run.

    Raises:
        FingerprintError: the fingerprint ``found`` differs from the run's fingerprint.
    """
    if found_differences := differences(wanted, found):
        raise FingerprintError(
            f"this worker computes otherwise than the run: {explain(found_differences)}, or "
            'set engine.numerics="relaxed"'
        )


def _title(key: str) -> str:
    for start in (PACKAGE, LIBRARY):
        if key.startswith(start):
            return f"{start}{key.removeprefix(start)!r}"
    return f"its {key}"


def _advice(found: Mapping[str, tuple[str, str]]) -> str:
    packages = [key.removeprefix(PACKAGE) for key in found if key.startswith(PACKAGE)]
    if packages:
        name = packages[0]
        on_disk = disk_digest(name)
        if on_disk != imported_digest(name) and on_disk == found[PACKAGE + name][0]:
            return f"it {STALE}"
        return f"install the same {name!r} on every host, and restart what imported another"
    libraries = [key.removeprefix(LIBRARY) for key in found if key.startswith(LIBRARY)]
    if libraries:
        return f"install the same version of {libraries[0]} on every host"
    if found.keys() & {"code", "torch", "training"}:
        return "install the same metafleet and torch on every host"
    return "pin ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY on every host"


@functools.cache
def _code() -> str:
    """Return the release and a digest of the sources: a checkout changes without a release."""
    try:
        release = metadata.version("metafleet")
    except metadata.PackageNotFoundError:
        release = "unknown"
    root = Path(metafleet.errors.__file__).parent
    return f"{release}+{folder_digest(root, without=_NOT_COMPUTING)[:12]}"


@functools.cache
def _probe(device: str, threads: int) -> str:
    """Return a digest of the bits of a convolution, its gradients and a product of matrices."""
    x = _ramp((5, 16, 14, 14), 7919).to(device).requires_grad_()
    weight = _ramp((16, 16, 3, 3), 104729).to(device).requires_grad_()
    y = F.relu(F.conv2d(x, weight, padding=1)).flatten(1)
    loss = F.softmax(y @ y.T / y.shape[1], dim=1).square().sum()
    grads = torch.autograd.grad(loss, (x, weight))
    return digest({"y": y, "x": grads[0], "weight": grads[1]})[:12]


def _ramp(shape: tuple[int, ...], stride: int) -> torch.Tensor:
    """Return values in [-0.5, 0.5) without using a random generator."""
    n = torch.Size(shape).numel()
    return ((torch.arange(n) * stride) % 10007).to(torch.float32).reshape(shape) / 10007 - 0.5


def _precision(is_cuda: bool) -> str:
    matmul = torch.get_float32_matmul_precision()
    if not is_cuda:
        return matmul
    return f"{matmul}, convolution {'tf32' if torch.backends.cudnn.allow_tf32 else 'float32'}"


def _gpu(device: str) -> str:
    name = torch.cuda.get_device_name(device)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call] # torch has no types
    return f"{name}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
