"""Convolutions along a sequence: the points of a pen stroke, or the bytes of a text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import BatchNormMode, Normalise
from metafleet.models.conv_block import init_blocks
from metafleet.models.encoder import Encoder, require_counts, require_pooling
from metafleet.models.sequence_input import SEQUENCES, SequenceInput
from metafleet.options import require
from metafleet.params import Params

_FIRST_BLOCK = 10
"""Index of the first block's tensors, which follow those of the input."""


@dataclass(frozen=True, slots=True)
class Conv1dOptions:
    """Options of ``Conv1d``.

    Attributes:
        channels: filters in each block, >= 1.
        n_blocks: number of blocks, each of which halves the length, >= 1.
        kernel: width of the filters, odd.
        modality: modality to read; its examples are [length, d], or [length] bytes.
        batch_norm: as in ``conv4``.
    """

    channels: int = 64
    n_blocks: int = 4
    kernel: int = 5
    modality: str = "stroke"
    batch_norm: BatchNormMode = "transductive"

    def __post_init__(self) -> None:
        require_counts(self, "channels", "n_blocks", "kernel")
        require(self.kernel % 2 == 1, "kernel", self.kernel, "an odd number")


class Conv1d(Encoder[Conv1dOptions]):
    """Blocks of convolution along the sequence, batch norm, pooling by 2 and ReLU.

    The features are the flattened output of the last block, [n, channels * remaining positions].
    The network is conv4 along one axis instead of two axes.

    Source: the block of Vinyals et al. 2016, arXiv:1606.04080, section 4.1.
    """

    name: ClassVar[str] = "conv1d"
    Options: ClassVar[type] = Conv1dOptions
    shapes = SEQUENCES
    reads_bytes = True

    def __init__(
        self, options: Conv1dOptions, *, shape: tuple[int, ...], n_outputs: int | None
    ) -> None:
        super().__init__(options, shape=shape, n_outputs=n_outputs)
        require_pooling(shape[:1], n_blocks=options.n_blocks)
        self._input = SequenceInput(shape, width=options.channels)

    @property
    def layers(self) -> Mapping[str, int]:
        """The blocks, with their numbers of filters."""
        return {f"block{i}": self.options.channels for i in range(self.options.n_blocks)}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Channels times positions of the last block."""
        return (self.options.channels * (self.shape[0] // 2**self.options.n_blocks),)

    def init_body(self, seed: int) -> Params:
        """Draw Glorot weights; batch norm starts as the identity."""
        blocks = init_blocks(
            seed,
            self.layers,
            n_in=self._input.n_channels,
            batch_norm=self.batch_norm,
            window=(self.options.kernel,),
            first=_FIRST_BLOCK,
        )
        return self._input.init(seed, 0) | blocks

    def body(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map sequences to the flattened output of the last block."""
        positions, is_real = self._input(params, x)
        x = (positions * is_real[:, :, None]).transpose(1, 2)
        for layer in self.layers:
            bias = params.get(f"{layer}.conv.bias")
            x = F.conv1d(x, params[f"{layer}.conv.weight"], bias, padding=self.options.kernel // 2)
            if bias is None:
                x = norm(layer, x, params[f"{layer}.norm.scale"], params[f"{layer}.norm.shift"])
            x = x if modulate is None else modulate(layer, x)
            # equal to pooling after ReLU, because ReLU is monotone
            x = F.relu(F.max_pool1d(x, 2))
        return x.flatten(1)
