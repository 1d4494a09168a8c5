"""A typed way into ``torch.autograd.Function``."""

from typing import Any

import torch


def apply(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """Return ``function.apply(*inputs)``, which torch leaves without types."""
    return function.apply(*inputs)  # type: ignore[no-untyped-call]
