"""Convolutions over the frames of a clip, and pooling over time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import BatchNormMode, Normalise
from metafleet.models.conv_block import conv_block
from metafleet.models.encoder import Encoder, init_conv, require_counts, require_pooling
from metafleet.params import Params


@dataclass(frozen=True, slots=True)
class VideoConvOptions:
    """Options of ``VideoConv``.

    Attributes:
        channels: filters in each block, >= 1.
        n_blocks: blocks, each of which halves height and width, >= 1.
        modality: which modality to look at; its examples are [frames, channels, height, width].
        batch_norm: one of ``batch_norm.MODES``; see there.
    """

    channels: int = 64
    n_blocks: int = 4
    modality: str = "video"
    batch_norm: BatchNormMode = "transductive"

    def __post_init__(self) -> None:
        require_counts(self, "channels", "n_blocks")


class VideoConv(Encoder[VideoConvOptions]):
    """The blocks of conv4 on each frame, then the mean over frames: [n, channels * h * w].

    Batch norm sees all frames of all clips as one batch.

    Source: frame-wise features pooled over time, Karpathy et al. 2014; the blocks of Vinyals et al.
    2016, arXiv:1606.04080, section 4.1.
    """

    Options: ClassVar[type] = VideoConvOptions
    shapes: ClassVar[Mapping[int, str]] = {4: "(frames, channels, height, width)"}

    def __init__(
        self, options: VideoConvOptions, *, shape: tuple[int, ...], n_outputs: int | None
    ) -> None:
        super().__init__(options, shape=shape, n_outputs=n_outputs)
        require_pooling(shape[2:], n_blocks=options.n_blocks)

    @property
    def layers(self) -> Mapping[str, int]:
        """The blocks, with their filters."""
        return {f"block{i}": self.options.channels for i in range(self.options.n_blocks)}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Channels, height and width of the last block."""
        scale = 2**self.options.n_blocks
        return (self.options.channels, self.shape[2] // scale, self.shape[3] // scale)

    def init_body(self, seed: int) -> Params:
        """Draw Glorot weights; batch norm starts as the identity."""
        params: Params = {}
        n_in = self.shape[1]
        for i, (layer, channels) in enumerate(self.layers.items()):
            shape = (channels, n_in, 3, 3)
            params |= init_conv(seed, i, layer, shape, batch_norm=self.batch_norm)
            n_in = channels
        return params

    def body(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map clips to features."""
        n, n_frames = x.shape[:2]
        frames = x.flatten(0, 1)
        for layer in self.layers:
            frames = conv_block(params, layer, frames, norm, modulate=modulate)
        return frames.reshape(n, n_frames, *self.feature_shape).mean(dim=1).flatten(1)
