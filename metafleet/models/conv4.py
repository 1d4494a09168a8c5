"""The four-block convolutional network of few-shot learning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.models.base import Modulate
from metafleet.models.batch_norm import BatchNormMode, Normalise
from metafleet.models.conv_block import conv_block, init_blocks
from metafleet.models.encoder import Encoder, require_counts
from metafleet.models.tracing import is_mapped
from metafleet.options import require
from metafleet.params import Params


@dataclass(frozen=True, slots=True)
class Conv4Options:
    """Options of ``Conv4``.

    Attributes:
        channels: filters in each block, >= 1.
        n_blocks: number of blocks, >= 1.
        pooled_blocks: number of blocks, counted from the first, that halve height and width; None
            for all blocks.
        modality: modality to read; its examples are [channels, height, width].
        batch_norm: the mode, which determines the statistics that normalise a query. "transductive"
            uses the statistics of the query's batch. "support" uses the statistics of the support
            set. "running" uses running averages from training. "per_step" uses separate running
            averages for each inner step. "frozen" uses running averages in training as well. "none"
            disables batch norm. State the mode with every result, because the mode changes what the
            result means.
    """

    channels: int = 64
    n_blocks: int = 4
    pooled_blocks: int | None = None
    modality: str = "image"
    batch_norm: BatchNormMode = "transductive"

    def __post_init__(self) -> None:
        require_counts(self, "channels", "n_blocks")
        pooled, up_to = self.pooled_blocks, f"0 to n_blocks={self.n_blocks}"
        is_within = pooled is None or 0 <= pooled <= self.n_blocks
        require(is_within, "pooled_blocks", pooled, up_to)


class Conv4(Encoder[Conv4Options]):
    """Blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pooling, and an optional linear head.

    With a head, the outputs are [n, n_outputs]. Without a head, the outputs are the flattened
    output of the last block, [n, d].

    Source: Vinyals et al. 2016, arXiv:1606.04080, section 4.1; Finn et al. 2017,
    arXiv:1703.03400, section 5.2.
    """

    name: ClassVar[str] = "conv4"
    Options: ClassVar[type] = Conv4Options
    shapes: ClassVar[Mapping[int, str]] = {3: "(channels, height, width)"}

    def __init__(
        self, options: Conv4Options, *, shape: tuple[int, ...], n_outputs: int | None
    ) -> None:
        super().__init__(options, shape=shape, n_outputs=n_outputs)
        _, height, width = shape
        pooled = options.n_blocks if options.pooled_blocks is None else options.pooled_blocks
        scale = 2**pooled
        if min(height, width) < scale:
            option = "n_blocks" if options.pooled_blocks is None else "pooled_blocks"
            raise ConfigError(
                f"{option}={pooled} halves height and width so often that "
                f"{height}x{width} vanishes; expected images of {scale}x{scale} or more, "
                "or fewer blocks"
            )
        self._feature_shape = (options.channels, height // scale, width // scale)
        self._n_pooled = pooled

    @property
    def layers(self) -> Mapping[str, int]:
        """The blocks, with their numbers of filters."""
        return {f"block{i}": self.options.channels for i in range(self.options.n_blocks)}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Channels, height and width of the last block."""
        return self._feature_shape

    @property
    def head_index(self) -> int:
        """Index of the head's tensors: right after the blocks, as in earlier versions."""
        return self.options.n_blocks

    def init_body(self, seed: int) -> Params:
        """Draw Glorot weights; batch norm starts as the identity."""
        return init_blocks(seed, self.layers, n_in=self.shape[0], batch_norm=self.batch_norm)

    def body(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map images to the flattened output of the last block, [n, d]."""
        x = _channels_last(x)
        for i, layer in enumerate(self.layers):
            is_pooled = i < self._n_pooled
            x = conv_block(params, layer, x, norm, is_pooled=is_pooled, modulate=modulate)
        return x.flatten(1)


def _channels_last(images: Tensor) -> Tensor:
    """Copy images [n, c, h, w] to a channels-last layout, which later blocks then keep.

    On a CPU, this layout makes an episode up to a third faster. The strides are set by hand,
    because ``contiguous(memory_format=...)`` does not change images of a single channel. With such
    images, the whole network would keep the channels-first layout.
    """
    # under vmap, torch cannot differentiate pooling of this layout
    if images.device.type != "cpu" or is_mapped():
        return images
    _, channels, height, width = images.shape
    strides = (channels * height * width, 1, channels * width, channels)
    return images.new_empty_strided(images.shape, strides).copy_(images)
