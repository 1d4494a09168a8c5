"""The base of networks that apply conv4's blocks to sounds and video clips."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import BatchNormMode, Normalise
from metafleet.models.conv_block import conv_block, init_blocks
from metafleet.models.encoder import Encoder, require_counts, require_pooling
from metafleet.params import Params


@dataclass(frozen=True, slots=True)
class ConvStackOptions:
    """Options that every stack of blocks has.

    Attributes:
        channels: filters in each block, >= 1.
        n_blocks: number of blocks, each of which halves height and width, >= 1.
        batch_norm: as in ``conv4``.
    """

    channels: int = 64
    n_blocks: int = 4
    batch_norm: BatchNormMode = "transductive"

    def __post_init__(self) -> None:
        require_counts(self, "channels", "n_blocks")


StackOptionsT = TypeVar("StackOptionsT", bound=ConvStackOptions)


class ConvStack(Encoder[StackOptionsT]):
    """Applies the blocks of conv4 to planes, which are image-like tensors.

    A subclass implements ``plane``, which converts examples to planes. It also implements
    ``feature_shape``, and ``body``, which must call ``run_blocks``.

    Raises:
        ConfigError: the planes are too small for so many blocks.

    Source: the blocks of Vinyals et al. 2016, arXiv:1606.04080, section 4.1.
    """

    def __init__(
        self, options: StackOptionsT, *, shape: tuple[int, ...], n_outputs: int | None
    ) -> None:
        super().__init__(options, shape=shape, n_outputs=n_outputs)
        require_pooling(self.plane[1:], n_blocks=options.n_blocks)

    @property
    @abstractmethod
    def plane(self) -> tuple[int, ...]:
        """Channels, height and width of the first block's input."""

    @property
    def layers(self) -> Mapping[str, int]:
        """The blocks, with their numbers of filters."""
        return {f"block{i}": self.options.channels for i in range(self.options.n_blocks)}

    @property
    def last_plane(self) -> tuple[int, int, int]:
        """Channels, height and width of the last block's output."""
        _, height, width = self.plane
        scale = 2**self.options.n_blocks
        return (self.options.channels, height // scale, width // scale)

    def init_body(self, seed: int) -> Params:
        """Draw Glorot weights; batch norm starts as the identity."""
        return init_blocks(seed, self.layers, n_in=self.plane[0], batch_norm=self.batch_norm)

    def run_blocks(
        self,
        params: Mapping[str, Tensor],
        planes: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map planes [n, *plane] to [n, *last_plane]; batch norm sees all n as one batch."""
        for layer in self.layers:
            planes = conv_block(params, layer, planes, norm, modulate=modulate)
        return planes
