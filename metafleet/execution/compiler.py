"""Tensor functions written down by ``make_fx``, and compiled by inductor."""

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


def trace(function: Callable[..., list[Tensor]], inputs: Sequence[Tensor]) -> Any:
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


def compile_graph(graph: Any, inputs: Sequence[Tensor], place: Path) -> Path:
    """Return the path of the library that inductor makes of ``graph`` in a folder of its own.

    Raises what inductor does: call it within ``readable_errors``.
    """
    import torch._inductor  # noqa: PLC0415 - takes a second, and hundreds of megabytes

    options = {
        "aot_inductor.output_path": str(place / "program.so"),
        "aot_inductor.precompile_headers": False,  # in a folder for all users, and no faster
        # the processor's instructions are those that it says it has; trying them out takes longer
        # than many a program, and on a busy machine might find fewer: other bits
        "cpp.vec_isa_ok": True,
        "compile_threads": 1,
        **({"aot_inductor.embed_kernel_binary": True} if inputs[0].is_cuda else {}),
    }
    with _inductor_in(place), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        library = torch._inductor.aot_compile(graph, tuple(inputs), options=options)
    assert isinstance(library, str)
    return Path(library)


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
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
