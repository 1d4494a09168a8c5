"""Convolutions over a log-mel spectrogram."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.conv_stack import ConvStack, ConvStackOptions

_SILENCE = 1e-5


@dataclass(frozen=True, slots=True)
class AudioConvOptions(ConvStackOptions):
    """Options of ``AudioConv``, in addition to those of ``ConvStack``.

    Each block halves the number of mels and the number of frames.

    Attributes:
        modality: modality to read; its examples are [mels, frames].
    """

    modality: str = "audio"


class AudioConv(ConvStack[AudioConvOptions]):
    """Apply the blocks of conv4 to a spectrogram and average over time: [n, channels * mels].

    Each spectrogram is first standardised to mean 0 and variance 1, so that loudness has no effect.

    Source: the blocks of Vinyals et al. 2016, arXiv:1606.04080, section 4.1. As in Kong et al.
    2020, arXiv:1912.10211, the mean is taken over time. It is not taken over height, because height
    is pitch.
    """

    name: ClassVar[str] = "audio_conv"
    Options: ClassVar[type] = AudioConvOptions
    shapes: ClassVar[Mapping[int, str]] = {2: "(mels, frames)"}

    @property
    def plane(self) -> tuple[int, ...]:
        """The spectrogram, as an image of one channel."""
        return (1, *self.shape)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Channels times the mels of the last block."""
        channels, n_mels, _ = self.last_plane
        return (channels * n_mels,)

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
        return self.run_blocks(params, x, norm, modulate).mean(dim=3).flatten(1)
