"""Trace tensor functions by ``make_fx`` and compile them by inductor."""

import contextlib
import functools
import os
import subprocess
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from metafleet.errors import ConfigError, MetafleetError
from metafleet.models.tracing import tracing

_CACHE_VARIABLE: Final = "TORCHINDUCTOR_CACHE_DIR"


@functools.cache
def compiler_version() -> str:
    """Return the version of the C++ compiler.

    The compiler's version affects the last bits of a program's results.

    Raises:
        ConfigError: there is no C++ compiler.
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


def trace(function: Callable[..., list[Tensor]], inputs: Sequence[Tensor]) -> Any:
    """Return the operators of ``function`` as a ``torch.fx.GraphModule``, without computing.

    Args:
        function: a function that takes as many tensors as ``inputs`` has. The function must have no
            side effects, and its control flow must not depend on tensor values.
        inputs: example inputs, which must be contiguous.

    Raises:
        ConfigError: the function cannot be traced.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415 - slow to import

    try:
        with tracing():
            graph = make_fx(function, tracing_mode="fake")(*inputs)
    except MetafleetError:
        raise
    except Exception as error:  # torch may raise anything if it cannot trace a function
        raise ConfigError(
            f"the learner cannot be compiled ({first_line(error)}); choose execution='autograd'"
        ) from error
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def compile_graph(graph: Any, inputs: Sequence[Tensor], place: Path) -> Path:
    """Compile ``graph`` with inductor inside the folder ``place``; return the library's path.

    Errors of inductor are raised as they are, so call this function inside ``readable_errors``.
    """
    import torch._inductor  # noqa: PLC0415 - takes a second, and hundreds of megabytes

    options = {
        "aot_inductor.output_path": str(place / "program.so"),
        # precompiled headers are in a folder that all users share, and are no faster
        "aot_inductor.precompile_headers": False,
        # Trust the instructions that the processor reports. Testing them takes longer than
        # compiling many programs, and may find fewer on a busy machine, which would change bits.
        "cpp.vec_isa_ok": True,
        "compile_threads": 1,
        **({"aot_inductor.embed_kernel_binary": True} if inputs[0].is_cuda else {}),
    }
    with _inductor_in(place), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's warnings about its own code
        library = torch._inductor.aot_compile(graph, tuple(inputs), options=options)
    assert isinstance(library, str)
    return Path(library)


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
    """Raise a ``ConfigError`` of one line if compiling fails: no memory, disk space or headers."""
    from torch._inductor import exc  # noqa: PLC0415 - takes a second to import

    try:
        yield
    except (exc.InductorError, exc.CppCompileError, OSError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"execution='compiled': the compiler failed ({first[:200]}); see that it has memory, "
            "room on the disk and its headers, or choose execution='autograd' or 'vmap'"
        ) from error


@contextlib.contextmanager
def _inductor_in(folder: Path) -> Iterator[None]:
    """Make inductor write its files to ``folder``, overriding its environment variable."""
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
    """Return the first line of an error's message, or its type if there is no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
