"""Inputs of sequence networks: points of a pen stroke, or bytes of a text.

A text is given as UTF-8 bytes (numbers 0 to 255), padded with zeros. Each byte is embedded. A
stroke is [length, d], without padding. Each point is concatenated with its difference from the
previous point.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from metafleet.models.init import fan_in_uniform
from metafleet.params import Params

SEQUENCES: Mapping[int, str] = {1: "(bytes of a text,)", 2: "(length, numbers of a point)"}
"""Numbers of axes of one example that ``SequenceInput`` reads -> their names."""
_N_BYTES = 256


class SequenceInput:
    """Converts examples to positions [n, length, n_channels] and a mask of the padding.

    Args:
        shape: shape of one example: (length,) for bytes, (length, d) for points.
        width: length of a byte's embedding.
    """

    def __init__(self, shape: tuple[int, ...], *, width: int) -> None:
        self._is_text = len(shape) == 1
        self.n_channels = width if self._is_text else 2 * shape[1]

    def init(self, seed: int, index: int) -> Params:
        """Draw the byte embedding at ``index``; empty for points."""
        if not self._is_text:
            return {}
        shape = (_N_BYTES, self.n_channels)
        return {"input.bytes": fan_in_uniform(seed, index, shape, fan_in=1)}

    def __call__(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions [n, length, n_channels] and a float mask [n, length], 0 for padding.

        Each point is concatenated with its difference from the previous point. The difference of
        the first point is 0.
        """
        if self._is_text:
            return params["input.bytes"][x.long()], (x != 0).to(x.dtype)
        moved = x[:, 1:] - x[:, :-1]
        moves = torch.cat([torch.zeros_like(x[:, :1]), moved], dim=1)
        return torch.cat([x, moves], dim=2), torch.ones_like(x[:, :, 0])
