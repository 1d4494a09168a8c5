"""Reduced precision of matrix products and convolutions."""

from contextlib import AbstractContextManager, nullcontext

import torch

from metafleet.execution.strategy import Precision


def in_precision(precision: Precision, device: str) -> AbstractContextManager[object]:
    """Compute matrix products and convolutions in ``precision`` inside the block.

    bfloat16 is torch's mixed precision: operands are rounded; sums and everything else stay
    float32. The cache of casts is off, because it would make episodes depend on one another.
    """
    if precision == "float32":
        return nullcontext()
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, cache_enabled=False)
