"""Convolutions over a log-mel spectrogram."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import BatchNormMode, Normalise
from metafleet.models.conv_block import conv_block
from metafleet.models.encoder import Encoder, init_conv, require_counts, require_pooling
from metafleet.params import Params

_SILENCE = 1e-5


@dataclass(frozen=True, slots=True)
class AudioConvOptions:
    """Options of ``AudioConv``.

    Attributes:
        channels: filters in each block, >= 1.
        n_blocks: blocks, each of which halves mels and frames, >= 1.
        modality: which modality to look at; its examples are [mels, frames].
        batch_norm: one of ``batch_norm.MODES``; see there.
    """

    channels: int = 64
    n_blocks: int = 4
    modality: str = "audio"
    batch_norm: BatchNormMode = "transductive"

    def __post_init__(self) -> None:
        require_counts(self, "channels", "n_blocks")


class AudioConv(Encoder[AudioConvOptions]):
    """The blocks of conv4 on a spectrogram, then the mean over time: [n, channels * mels left].

    A spectrogram is first shifted and scaled to mean 0 and variance 1, so that loudness says
    nothing.

    Source: the blocks of Vinyals et al. 2016, arXiv:1606.04080, section 4.1; pooling over time
    alone, since height in a spectrogram is pitch, as in Kong et al. 2020, arXiv:1912.10211.
    """

    Options: ClassVar[type] = AudioConvOptions
    shapes: ClassVar[Mapping[int, str]] = {2: "(mels, frames)"}

    def __init__(
        self, options: AudioConvOptions, *, shape: tuple[int, ...], n_outputs: int | None
    ) -> None:
        super().__init__(options, shape=shape, n_outputs=n_outputs)
        require_pooling(shape, n_blocks=options.n_blocks)

    @property
    def layers(self) -> Mapping[str, int]:
        """The blocks, with their filters."""
        return {f"block{i}": self.options.channels for i in range(self.options.n_blocks)}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Channels of each mel that is left, flattened."""
        return (self.options.channels * (self.shape[0] // 2**self.options.n_blocks),)

    def init_body(self, seed: int) -> Params:
        """Draw Glorot weights; batch norm starts as the identity."""
        params: Params = {}
        n_in = 1
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
        """Map spectrograms to features."""
        variance, mean = torch.var_mean(x, dim=(1, 2), correction=0, keepdim=True)
        x = ((x - mean) * torch.rsqrt(variance + _SILENCE))[:, None]
        for layer in self.layers:
            x = conv_block(params, layer, x, norm, modulate=modulate)
        return x.mean(dim=3).flatten(1)
