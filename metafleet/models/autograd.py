"""A typed and fast call of ``torch.autograd.Function``."""

from typing import Any

import torch

try:
    from torch._C import _are_functorch_transforms_active as _is_func_active
    from torch._functorch.utils import unwrap_dead_wrappers as _unwrap
except ImportError:  # other versions of torch have them elsewhere; the slow path works too

    def _is_func_active() -> bool:
        return True


def apply(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """Return ``function.apply(*inputs)``, which torch leaves untyped.

    Outside ``torch.func`` and compilers, this function skips the lookup of default values in the
    signature of ``forward``. Callers must therefore pass every input. The lookup takes as long as a
    small layer, and an episode of second-order MAML has hundreds of calls.
    """
    if torch.compiler.is_compiling() or _is_func_active():
        return function.apply(*inputs)  # type: ignore[no-untyped-call]
    return super(torch.autograd.Function, function).apply(*_unwrap(inputs))  # type: ignore[misc]
