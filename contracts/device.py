"""The compute device of a process, configured so that the same work gives the same bits."""

import ctypes
import os
import sys
from typing import Final

import torch

from metafleet.errors import ConfigError

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGEST_KEPT_BYTES: Final = 2**25
"""The largest value that glibc accepts for M_MMAP_THRESHOLD."""

_MOST_KEPT_BYTES: Final = 2**30


def resolve_device(requested: str) -> str:
    """Turn "auto", "cpu" or "cuda" into "cpu" or "cuda".

    Raises:
        ConfigError: "cuda" is requested, but torch finds no GPU.
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
    """Make this process's arithmetic repeatable. Call it before the first tensor operation.

    CPU kernels split sums by thread, so the number of threads changes the bits. This function sets
    the number of threads to one. One thread is enough, because several processes run in parallel.
    On a GPU, this function selects deterministic algorithms.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    if device == "cuda":
        # cuBLAS reads this when it creates its first handle
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def keep_freed_memory() -> None:
    """Let this process keep freed memory for its next allocations. The bits do not change.

    By default, glibc returns the memory of freed tensors to the system. Every episode then gets new
    memory, and the system zeroes each page. In MAML with the model conv4, each episode gets 40 MB
    of new memory, and zeroing this memory takes an eighth of the episode's time. Without glibc,
    this function does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT_BYTES)


def describe_device(device: str) -> str:
    """Name a device for people: "cpu", or "cuda NVIDIA H200"."""
    return f"cuda {torch.cuda.get_device_name()}" if device == "cuda" else "cpu"
