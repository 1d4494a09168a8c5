"""What a network along a sequence reads: points of a path with their movement, or embedded bytes.

A text is bytes of UTF-8 as numbers 0 to 255, padded with zeros; a path is [length, d], of which
every position is real.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from metafleet.models.init import fan_in_uniform
from metafleet.params import Params

SEQUENCES: Mapping[int, str] = {1: "(bytes of a text,)", 2: "(length, numbers of a point)"}
"""Axes of one example that ``SequenceInput`` reads, with their names."""
_N_BYTES = 256


class SequenceInput:
    """Turns examples into positions [n, length, n_channels], and says which are no padding.

    Args:
        shape: of one example: (length,) for bytes, (length, d) for points.
        width: channels that a byte is embedded in.
    """

    def __init__(self, shape: tuple[int, ...], *, width: int) -> None:
        self._is_text = len(shape) == 1
        self.n_channels = width if self._is_text else 2 * shape[1]

    def init(self, seed: int, index: int) -> Params:
        """Draw the embedding of bytes at ``index``; nothing for points."""
        if not self._is_text:
            return {}
        shape = (_N_BYTES, self.n_channels)
        return {"input.bytes": fan_in_uniform(seed, index, shape, fan_in=1)}

    def __call__(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions [n, length, n_channels] and which are real, float [n, length].

        A point comes with its difference from the one before; the first one's is zero.
        """
        if self._is_text:
            return params["input.bytes"][x.long()], (x != 0).to(x.dtype)
        moved = x[:, 1:] - x[:, :-1]
        moves = torch.cat([torch.zeros_like(x[:, :1]), moved], dim=1)
        return torch.cat([x, moves], dim=2), torch.ones_like(x[:, :, 0])
