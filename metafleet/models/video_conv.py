"""Convolutions over the frames of a clip, and pooling over time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.conv_stack import ConvStack, ConvStackOptions


@dataclass(frozen=True, slots=True)
class VideoConvOptions(ConvStackOptions):
    """Options of ``VideoConv``, in addition to those of ``ConvStack``.

    Attributes:
        modality: modality to read; its examples are [frames, channels, height, width].
    """

    modality: str = "video"


class VideoConv(ConvStack[VideoConvOptions]):
    """Apply the blocks of conv4 to each frame and average over frames: [n, channels * h * w].

    Batch norm treats all frames of all clips as one batch.

    Source: pooling frame features over time, Karpathy et al. 2014; the blocks of Vinyals et al.
    2016, arXiv:1606.04080, section 4.1.
    """

    name: ClassVar[str] = "video_conv"
    Options: ClassVar[type] = VideoConvOptions
    shapes: ClassVar[Mapping[int, str]] = {4: "(frames, channels, height, width)"}

    @property
    def plane(self) -> tuple[int, ...]:
        """One frame."""
        return self.shape[1:]

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Channels, height and width of the last block."""
        return self.last_plane

    def body(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map clips to features."""
        n, n_frames = x.shape[:2]
        frames = self.run_blocks(params, x.flatten(0, 1), norm, modulate)
        return frames.reshape(n, n_frames, *self.feature_shape).mean(dim=1).flatten(1)
