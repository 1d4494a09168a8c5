"""Load the libraries that compute features, and fix their number of threads.

Each call uses one thread, and callers run several calls at the same time. The number of threads of
a call is fixed, because the last bits of features depend on this number.
"""

import contextlib
import importlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

from metafleet.errors import DataCorruptError, DataMissingError

_OPERATOR: Final = "operator torchvision::"
"""How torch names what a torchvision of another build lacks."""


_device = ""


def encoder_library(module: str, *, encoder: str, install: str) -> Any:
    """Import a library that an encoder needs.

    Raises:
        DataMissingError: the library is not installed or does not work here; the message says how
            to install it.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")[:160]
        if _OPERATOR in reason:
            raise DataMissingError(
                f"encoder {encoder!r} needs {module}, whose torchvision is built for another torch "
                f"than the installed one ({reason}); `metafleet doctor` says what to install"
            ) from error
        raise DataMissingError(
            f"encoder {encoder!r} needs {module} ({type(error).__name__}: {reason}); run "
            f"`{install}`"
        ) from error


def onnx_session(path: Path, *, encoder: str, install: str) -> Any:
    """Open an ONNX model on the CPU.

    Args:
        path: the file.
        encoder: name of the encoder, for messages.
        install: command that installs ONNX Runtime, for messages.

    Raises:
        DataMissingError: ONNX Runtime is not installed.
        DataCorruptError: the file is not a readable model.
    """
    runtime = encoder_library("onnxruntime", encoder=encoder, install=install)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes, which have no common base
        reason = next(iter(str(error).splitlines()), "")[:160]
        raise DataCorruptError(f"{path} is no ONNX model that can be read: {reason}") from error


class _Limit:
    """Who is inside ``one_thread_a_call``, in all threads."""

    def __init__(self) -> None:
        self.lock, self.n_inside, self.n_outside = threading.Lock(), 0, 1
        self.own = threading.local()


_limit: Final = _Limit()


def limit_this_thread() -> None:
    """Limit torch to one thread per call in this thread, permanently."""
    torch.get_num_threads()  # otherwise its first call would replace the limit by another thread's
    torch.set_num_threads(1)


@contextlib.contextmanager
def one_thread_a_call() -> Iterator[None]:
    """Inside the block, limit torch to one thread per call in this thread.

    Several threads may be inside such a block at the same time. Torch has a separate limit for each
    thread, but a new thread starts with the limit that any thread set last. If that thread was
    inside such a block, the new thread starts with the limit 1. Therefore, at the end of the block,
    a thread does not restore the limit with which it began. It restores the limit that the first
    thread to enter such a block found.
    """
    if getattr(_limit.own, "is_inside", False):
        yield
        return
    with _limit.lock:
        if _limit.n_inside == 0:
            _limit.n_outside = torch.get_num_threads()
        _limit.n_inside += 1
        limit_this_thread()
    _limit.own.is_inside = True
    try:
        yield
    finally:
        _limit.own.is_inside = False
        with _limit.lock:
            _limit.n_inside -= 1
            torch.set_num_threads(_limit.n_outside)


def compute_on(device: str) -> None:
    """From now on, compute on "cpu" or "cuda" in this process."""
    global _device  # noqa: PLW0603 - of the process, as all its threads encode
    _device = device


def device() -> torch.device:
    """Return the device that encoders compute on: by default, a GPU if there is one."""
    return torch.device(_device or ("cuda" if torch.cuda.is_available() else "cpu"))
