"""Machine code of tensor functions: written down by ``make_fx``, compiled by inductor, kept.

A program is named by a digest of what it computes, of the shapes, of torch, compiler and processor;
so whoever has the same work on the same kind of machine takes the file that is there, loaded within
a millisecond. A folder may be shared by any number of processes: one compiles, the others wait for
it, and a file appears whole or not at all. Programs are code: the folder must be our own, and
writable by nobody else.
"""

import contextlib
import fcntl
import functools
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from metafleet.errors import ConfigError, MetafleetError
from metafleet.tracing import tracing

log = logging.getLogger(__name__)

Program = Callable[[list[Tensor]], list[Tensor]]
"""Tensors in, as it was compiled for: contiguous, of the same shapes and types; tensors out."""

_MOST_KEPT: Final = 200
"""Programs that a folder keeps; those used longest ago go first."""

_LONGEST_BUILD_S: Final = 86400.0

_BUILDING: Final = "building-"
_SUFFIX: Final = ".so"
_CACHE_VARIABLE: Final = "TORCHINDUCTOR_CACHE_DIR"


class MachineCode:
    """The programs of one folder.

    Args:
        folder: made if it is not there.
        device: torch device they run on.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._folder, self._device = folder, torch.device(device)

    def program(self, graph: Any, inputs: Sequence[Tensor]) -> Program:
        """Return machine code of ``graph``, compiled now unless somebody has before.

        Args:
            graph: made by ``write_down``.
            inputs: what it was written down for.

        Raises:
            ConfigError: there is no compiler, it fails, or the folder is unsafe.
        """
        path = self._folder / f"{self._name(graph, inputs)}{_SUFFIX}"
        self._secure_folder()
        if not path.exists():
            with self._alone(path):
                if not path.exists():
                    self._compile(graph, inputs, path)
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

    @contextlib.contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Keep other processes out; the kernel lets go of the lock of one that dies."""
        with path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _compile(self, graph: Any, inputs: Sequence[Tensor], path: Path) -> None:
        """Compile into a folder beside, and put the library in its place when it is whole."""
        began_s = time.monotonic()
        log.info("compiling %s: %d operations", path.name, len(graph.graph.nodes))
        with (
            _failures_told(),
            tempfile.TemporaryDirectory(dir=self._folder, prefix=_BUILDING) as place,
            _inductor_in(self._folder / "inductor"),
        ):
            library = _compile_graph(graph, inputs, Path(place))
            with Path(library).open("rb+") as built:
                os.fsync(built.fileno())
            Path(library).replace(path)
        log.info("compiled %s in %.0f s", path.name, time.monotonic() - began_s)
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        found = sorted(self._folder.glob(f"*{_SUFFIX}"), key=lambda p: p.stat().st_mtime)
        for path in found[:-_MOST_KEPT]:
            path.unlink(missing_ok=True)
        for place in self._folder.glob(f"{_BUILDING}*"):  # of processes that were killed meanwhile
            with contextlib.suppress(OSError):
                if time.time() - place.stat().st_mtime > _LONGEST_BUILD_S:
                    shutil.rmtree(place, ignore_errors=True)

    def _load(self, path: Path) -> Program:
        runner: Any
        if self._device.type == "cuda":
            runner = torch._C._aoti.AOTIModelContainerRunnerCuda(str(path), 1, str(self._device))
        else:
            runner = torch._C._aoti.AOTIModelContainerRunnerCpu(str(path), 1)
        program: Program = runner.run
        return program


@contextlib.contextmanager
def _failures_told() -> Iterator[None]:
    """Say in one line why compiling failed: no memory, no room, no headers."""
    from torch._inductor import exc  # noqa: PLC0415 - takes a second to import

    try:
        yield
    except (exc.InductorError, exc.CppCompileError, OSError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"execution='compiled': the compiler failed ({first[:200]}); see that it has memory, "
            "room on the disk and its headers, or choose execution='autograd' or 'vmap'"
        ) from error


def _describe(device: torch.device) -> str:
    """Name what a program is for: a GPU's code runs on its own kind alone."""
    if device.type != "cuda":
        return str(device)
    properties = torch.cuda.get_device_properties(device)
    return f"{device} {properties.name} {properties.major}.{properties.minor}"


@functools.cache
def compiler_version() -> str:
    """Name the C++ compiler: with the processor's instructions it decides a program's bits.

    Raises:
        ConfigError: there is none.
    """
    from torch._inductor import cpp_builder, exc  # noqa: PLC0415 - takes a second to import

    try:
        compiler = cpp_builder.get_cpp_compiler()
        said = subprocess.run(
            [compiler, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (exc.InvalidCxxCompiler, OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            "execution='compiled' needs a C++ compiler and found none (CXX, or else g++); "
            "install g++, or choose execution='autograd' or 'vmap'"
        ) from error
    return said.stdout.splitlines()[0]


@functools.cache
def _processor() -> str:
    """Describe the processor, whose every instruction a program may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    first = {line.split(":")[0].strip(): line for line in reversed(lines)}
    return platform.machine() + "".join(first.get(name, "") for name in wanted)


def write_down(function: Callable[..., list[Tensor]], inputs: Sequence[Tensor]) -> Any:
    """Return the operators of ``function`` as a ``torch.fx.GraphModule``; nothing is computed.

    Args:
        function: of as many tensors as ``inputs``, without side effects, whose course does not
            depend on values.
        inputs: examples; contiguous.

    Raises:
        ConfigError: it cannot be written down.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415 - slow to import

    try:
        with tracing():
            graph = make_fx(function, tracing_mode="fake")(*inputs)
    except MetafleetError:
        raise
    except Exception as error:  # whatever torch makes of a function that cannot be written down
        raise ConfigError(
            f"the learner cannot be compiled ({first_line(error)}); choose execution='autograd'"
        ) from error
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _constants(graph: Any) -> Iterator[str]:
    """Describe tensors that the function made of numbers of its own."""
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            value = getattr(graph, node.target)
            yield f"{node.target} {value.dtype} {value.tolist()}"


def _compile_graph(graph: Any, inputs: Sequence[Tensor], place: Path) -> str:
    """Return the path of the library that inductor made of ``graph``."""
    import torch._inductor  # noqa: PLC0415 - takes a second, and hundreds of megabytes

    options = {
        "aot_inductor.output_path": str(place / "program.so"),
        "aot_inductor.precompile_headers": False,  # in a folder for all users, and no faster
        "compile_threads": 1,
        **({"aot_inductor.embed_kernel_binary": True} if inputs[0].is_cuda else {}),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        library = torch._inductor.aot_compile(graph, tuple(inputs), options=options)
    assert isinstance(library, str)
    return library


@contextlib.contextmanager
def _inductor_in(folder: Path) -> Iterator[None]:
    """Have inductor leave its files in ``folder``, wherever its environment says."""
    before = os.environ.get(_CACHE_VARIABLE)
    os.environ[_CACHE_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_CACHE_VARIABLE]
        else:
            os.environ[_CACHE_VARIABLE] = before


def first_line(error: Exception) -> str:
    """Shorten what torch says to the line that says it."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
