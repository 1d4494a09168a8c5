"""A folder of compiled programs, which are the machine code of tensor functions.

A program's name contains a digest of its computation, its shapes, the versions of torch and the
compiler, and the processor. A later process that needs the same computation on the same kind of
machine finds the existing file and loads it within milliseconds. Any number of processes may share
a folder. If several processes need the same program, one compiles it while the others wait. Files
appear atomically. The name of a file also contains a digest of the file, so a file that was damaged
later is never run; its program is compiled again. Because programs are executable code, the folder
must belong to the current user, and other users must not be able to write to it.
"""

import contextlib
import functools
import hashlib
import logging
import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.execution.compiler import compile_graph, compiler_version, readable_errors
from metafleet.files import sync
from metafleet.locking import exclusive

log = logging.getLogger(__name__)

Program = Callable[[list[Tensor]], list[Tensor]]
"""Maps tensors to tensors. Inputs are contiguous, with the shapes and types of compilation."""

_MOST_KEPT: Final = 200
"""Number of programs that a folder keeps; the least recently used are deleted first."""

_LONGEST_BUILD_S: Final = 86400.0

_BUILDING: Final = "building-"
_SUFFIX: Final = ".so"


class ProgramCache:
    """The programs in one folder, as files "<digest of computation>-<digest of file>.so".

    Args:
        folder: the folder, which is created if it does not exist.
        device: torch device on which the programs run.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._folder, self._device = folder, torch.device(device)

    def program(self, graph: Any, inputs: Sequence[Tensor]) -> Program:
        """Return the program of ``graph``; compile it if the folder does not have it.

        Args:
            graph: a graph made by ``trace``.
            inputs: the inputs for which the graph was traced.

        Raises:
            ConfigError: there is no compiler, the compiler fails, or the folder belongs to another
                user or is writable by other users.
        """
        name = self._name(graph, inputs)
        self._secure_folder()
        path = self._find_whole(name)
        if path is None:
            with readable_errors(), exclusive(self._folder / f"{name}.lock", is_kept=False):
                path = self._find_whole(name, is_alone=True) or self._compile(graph, inputs, name)
        with contextlib.suppress(OSError):
            os.utime(path)
        return self._load(path)

    def _name(self, graph: Any, inputs: Sequence[Tensor]) -> str:
        sha = hashlib.sha256()
        parts = [graph.code, compiler_version(), _processor(), _describe(self._device)]
        parts += [f"{tuple(value.shape)} {value.dtype}" for value in inputs]
        parts += [str(torch.get_num_threads()), torch.__version__]
        parts += _constants(graph)
        for part in parts:
            sha.update(part.encode() + b"\0")
        return sha.hexdigest()[:40]

    def _secure_folder(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self._folder.stat()
        except OSError as error:
            raise ConfigError(
                f"the folder of compiled programs {self._folder} cannot be used "
                f"({error.strerror or error}); choose execution='autograd', or make room there"
            ) from error
        others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if found.st_uid != os.getuid() or others_write:
            raise ConfigError(
                f"the folder of compiled programs {self._folder} belongs to or can be written by "
                "others, who could have this process run their code; expected one of our own, "
                "mode 0700"
            )

    def _find_whole(self, name: str, *, is_alone: bool = False) -> Path | None:
        """Return the program's file if it exists and is undamaged.

        The check is needed because running a truncated library kills the process. Only a process
        that holds the lock (``is_alone``) deletes a damaged file. Without the lock, it could delete
        a file that another process has just compiled again.
        """
        for path in self._folder.glob(f"{name}-*{_SUFFIX}"):
            try:
                is_whole = path.stem == f"{name}-{_digest(path)}"
            except FileNotFoundError:  # another process has just deleted it
                continue
            except OSError as error:
                log.warning("compiled program %s cannot be read (%s)", path, error.strerror)
                continue
            if is_whole:
                return path
            if is_alone:
                log.warning("compiled program %s is damaged; it is compiled again", path)
                path.unlink(missing_ok=True)
        return None

    def _compile(self, graph: Any, inputs: Sequence[Tensor], name: str) -> Path:
        """Compile in a temporary folder, then move the finished library to its place."""
        began_s = time.monotonic()
        log.info("compiling %s: %d operations", name, len(graph.graph.nodes))
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=_BUILDING) as place:
            library = compile_graph(graph, inputs, Path(place))
            sync(library)
            path = self._folder / f"{name}-{_digest(library)}{_SUFFIX}"
            library.replace(path)
        log.info("compiled %s in %.0f s", path.name, time.monotonic() - began_s)
        self._forget_oldest()
        return path

    def _forget_oldest(self) -> None:
        found = sorted(self._folder.glob(f"*{_SUFFIX}"), key=lambda p: p.stat().st_mtime)
        for path in found[:-_MOST_KEPT]:
            path.unlink(missing_ok=True)
        for place in self._folder.glob(f"{_BUILDING}*"):  # left by processes that were killed
            with contextlib.suppress(OSError):
                if time.time() - place.stat().st_mtime > _LONGEST_BUILD_S:
                    shutil.rmtree(place, ignore_errors=True)

    def _load(self, path: Path) -> Program:
        # torch's public loaders only take packages of exported modules, not libraries of graphs
        is_cuda = self._device.type == "cuda"
        name = f"AOTIModelContainerRunner{'Cuda' if is_cuda else 'Cpu'}"
        runner = getattr(getattr(torch._C, "_aoti", None), name, None)
        if runner is None:
            raise ConfigError(
                f"execution='compiled': torch {torch.__version__} has no {name} to load programs "
                "with; install a version that metafleet asks for, or choose execution='autograd' "
                "or 'vmap'"
            )
        arguments = (str(path), 1, *([str(self._device)] if is_cuda else []))
        program: Program = runner(*arguments).run
        return program


def _digest(path: Path) -> str:
    with path.open("rb") as library:
        return hashlib.file_digest(library, "sha256").hexdigest()[:40]


def _describe(device: torch.device) -> str:
    """Describe the device of a program: GPU code only runs on the same kind of GPU."""
    if device.type != "cuda":
        return str(device)
    properties = torch.cuda.get_device_properties(device)
    return f"{device} {properties.name} {properties.major}.{properties.minor}"


@functools.cache
def _processor() -> str:
    """Describe the processor, because a program may use all of its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    first = {line.split(":")[0].strip(): line for line in reversed(lines)}
    return platform.machine() + "".join(first.get(name, "") for name in wanted)


def _constants(graph: Any) -> Iterator[str]:
    """Describe the constant tensors of the graph."""
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            value = getattr(graph, node.target)
            yield f"{node.target} {value.dtype} {value.tolist()}"
