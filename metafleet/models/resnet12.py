"""ResNet-12, the larger network of few-shot learning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import BatchNormMode, Normalise
from metafleet.models.convolution import convolve
from metafleet.models.encoder import Encoder, require_counts, require_pooling
from metafleet.models.init import init_conv
from metafleet.options import require, require_layers
from metafleet.params import Params

_SLOPE = 0.1
_CONVS = 3
_SKIP = "skip"


@dataclass(frozen=True, slots=True)
class ResNet12Options:
    """Options of ``ResNet12``.

    Attributes:
        channels: number of filters of each block. There is at least one block, and each halves
            height and width.
        modality: modality to read; its examples are [channels, height, width].
        batch_norm: as in ``conv4``.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512)
    modality: str = "image"
    batch_norm: BatchNormMode = "transductive"

    def __post_init__(self) -> None:
        is_usable = len(self.channels) > 0 and min(self.channels) >= 1
        require(is_usable, "channels", list(self.channels), "one or more blocks of 1 or more")
        require_layers("blocks of channels", len(self.channels))
        require_counts(self)


class ResNet12(Encoder[ResNet12Options]):
    """Residual blocks of three 3x3 convolutions, then a mean over all positions: [n, channels].

    A block is pool(leaky(conv3(x) + skip(x))). Here conv3 is the sequence of three convolutions,
    skip is a 1x1 convolution, and leaky is a leaky ReLU of slope 0.1. Batch norm follows each of
    these four convolutions. A leaky ReLU also follows the batch norm of the first and of the second
    convolution of conv3.

    Source: Oreshkin et al. 2018, arXiv:1805.10123, section 4.2 and supplement, as in Lee et al.
    2019, arXiv:1904.03758, section 4.1, without DropBlock.
    """

    name: ClassVar[str] = "resnet12"
    Options: ClassVar[type] = ResNet12Options
    shapes: ClassVar[Mapping[int, str]] = {3: "(channels, height, width)"}

    def __init__(
        self, options: ResNet12Options, *, shape: tuple[int, ...], n_outputs: int | None
    ) -> None:
        super().__init__(options, shape=shape, n_outputs=n_outputs)
        require_pooling(shape[1:], n_blocks=len(options.channels))

    @property
    def layers(self) -> Mapping[str, int]:
        """All convolutions, with their numbers of filters."""
        return {
            f"block{i}.{part}": channels
            for i, channels in enumerate(self.options.channels)
            for part in (*map(str, range(_CONVS)), _SKIP)
        }

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Channels of the last block."""
        return (self.options.channels[-1],)

    def init_body(self, seed: int) -> Params:
        """Draw Glorot weights; batch norm starts as the identity."""
        params: Params = {}
        n_in = self.shape[0]
        for i, channels in enumerate(self.options.channels):
            for j in range(_CONVS + 1):
                is_skip = j == _CONVS
                layer = f"block{i}.{_SKIP if is_skip else j}"
                size = 1 if is_skip else 3
                shape = (channels, channels if 0 < j < _CONVS else n_in, size, size)
                index = (_CONVS + 1) * i + j
                params |= init_conv(seed, index, layer, shape, batch_norm=self.batch_norm)
            n_in = channels
        return params

    def body(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map images to the mean of the last block."""
        for i in range(len(self.options.channels)):
            skip = _convolved(params, f"block{i}.{_SKIP}", x, norm, modulate)
            for j in range(_CONVS):
                x = _convolved(params, f"block{i}.{j}", x, norm, modulate)
                x = F.leaky_relu(x, _SLOPE) if j < _CONVS - 1 else x
            x = F.max_pool2d(F.leaky_relu(x + skip, _SLOPE), 2)
        return x.mean(dim=(2, 3))


def _convolved(
    params: Mapping[str, Tensor],
    layer: str,
    x: Tensor,
    norm: Normalise,
    modulate: Modulate | None,
) -> Tensor:
    weight = params[f"{layer}.conv.weight"]
    x = convolve(x, weight, weight.shape[2] // 2)
    if f"{layer}.conv.bias" in params:
        x = x + params[f"{layer}.conv.bias"].view(-1, 1, 1)
    else:
        x = norm(layer, x, params[f"{layer}.norm.scale"], params[f"{layer}.norm.shift"])
    return x if modulate is None else modulate(layer, x)
