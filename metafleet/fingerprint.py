"""A numerics fingerprint: two processes that share it compute the same bits."""

import functools
import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F

from metafleet.execution.compiler import compiler_version
from metafleet.params import digest

_COMPILER: Final = "compiler"


def fingerprint(device: str = "cpu") -> dict[str, str]:
    """Describe everything known to change the bits of this process's arithmetic.

    Call it after ``torch.set_num_threads`` and the like. Keys:
        torch, code: release of torch; release of metafleet and a digest of its sources.
        threads, cpu: torch threads; instruction set of torch's own kernels.
        probe: digest of a small convolution's bits, which also shows oneDNN's instruction set.
        device: "cpu", or the GPU's name with CUDA and cuDNN versions.
        compiler: only where gradients are compiled: the C++ compiler's release.
        deterministic, precision: torch's switches for repeatable and for reduced arithmetic.
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


def fingerprint_text(device: str = "cpu", *, compiles: bool = False) -> str:
    """Return the fingerprint as one line of JSON with sorted keys.

    Args:
        device: what computes.
        compiles: it computes gradients by programs compiled here, so the compiler counts as well.

    Raises:
        ConfigError: ``compiles`` and there is no compiler.
    """
    found = fingerprint(device)
    if compiles:
        found[_COMPILER] = compiler_version()
    return json.dumps(found, sort_keys=True)


def without_compiler(text: str) -> str:
    """Return what ``fingerprint_text`` gives for work that is not compiled; "" stays so."""
    if f'"{_COMPILER}"' not in text:
        return text
    found = json.loads(text)
    found.pop(_COMPILER, None)
    return json.dumps(found, sort_keys=True)


@functools.cache
def _code() -> str:
    """Return the release, and a digest of the sources: a checkout changes without a release."""
    try:
        release = metadata.version("metafleet")
    except metadata.PackageNotFoundError:
        release = "unknown"
    root = Path(__file__).parent
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        sha.update(path.relative_to(root).as_posix().encode() + b"\0")
        sha.update(path.read_bytes() + b"\0")
    return f"{release}+{sha.hexdigest()[:12]}"


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
    """Return values in [-0.5, 0.5) that no random generator has a part in."""
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
