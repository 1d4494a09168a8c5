"""What a process computes on, set up so that the same work gives the same bits."""

import os

import torch

from metafleet.errors import ConfigError


def resolve_device(requested: str) -> str:
    """Turn "auto", "cpu" or "cuda" into "cpu" or "cuda".

    Raises:
        ConfigError: "cuda" is asked for and torch sees no GPU.
    """
    has_cuda = torch.cuda.is_available()
    if requested == "auto":
        return "cuda" if has_cuda else "cpu"
    if requested == "cuda" and not has_cuda:
        raise ConfigError(
            "device 'cuda' was asked for but torch sees no GPU; "
            "install a CUDA build of torch and a driver, or use device 'cpu'"
        )
    return requested


def prepare_process(device: str) -> None:
    """Make this process's arithmetic repeatable: call it before the first tensor operation.

    CPU kernels split sums by thread, so the number of threads changes the bits: one thread, and
    parallelism by processes. On a GPU, deterministic algorithms.
    """
    torch.set_num_threads(1)
    if device == "cuda":
        # cuBLAS reads it when its first handle is made
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def describe_device(device: str) -> str:
    """Name a device for people: "cpu", or "cuda NVIDIA H200"."""
    return f"cuda {torch.cuda.get_device_name()}" if device == "cuda" else "cpu"
