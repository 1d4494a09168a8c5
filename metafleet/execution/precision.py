"""Reduced precision of matrix products and convolutions."""

from contextlib import AbstractContextManager, nullcontext

import torch

from metafleet.execution.strategy import Precision


def in_precision(precision: Precision, device: str) -> AbstractContextManager[object]:
    """Compute matrix products and convolutions in ``precision`` inside the block.

    bfloat16 is torch's mixed precision. Operands are rounded to bfloat16; sums and all other
    operations stay in float32. Torch's cache of casts is off, because with this cache, one episode
    could affect the next.
    """
    if precision == "float32":
        return nullcontext()
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, cache_enabled=False)
