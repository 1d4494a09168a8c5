"""A small transformer along a sequence: the bytes of a text, or the points of a pen stroke."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.models.attention import attend, join_heads, split_heads
from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.encoder import Encoder, require_counts
from metafleet.models.init import fan_in_uniform
from metafleet.models.sequence_input import SEQUENCES, SequenceInput
from metafleet.options import require
from metafleet.params import Params

_TENSORS_OF_BLOCK = 10
_FIRST_BLOCK = 10


@dataclass(frozen=True, slots=True)
class TransformerOptions:
    """Options of ``Transformer``.

    Attributes:
        dim: length of each position's vector, a multiple of ``heads``.
        n_blocks: number of blocks, >= 1. Each block consists of attention and a perceptron.
        heads: attention heads, >= 1.
        modality: modality to read; its examples are [length, d], or [length] bytes.
    """

    dim: int = 64
    n_blocks: int = 2
    heads: int = 4
    modality: str = "text"

    def __post_init__(self) -> None:
        require_counts(self, "dim", "n_blocks", "heads")
        require(self.dim % self.heads == 0, "dim", self.dim, f"a multiple of heads={self.heads}")


class Transformer(Encoder[TransformerOptions]):
    """Lets positions attend to each other. The features are the mean of the normalised positions.

    Each block first replaces x by x + attention(norm(x)), and then by x + perceptron(norm(x)).
    Position embeddings are learned. Padding is masked.

    Source: Vaswani et al. 2017, arXiv:1706.03762; layers are normalised before attention and
    perceptron as in Xiong et al. 2020, arXiv:2002.04745, figure 1b.
    """

    name: ClassVar[str] = "transformer"
    Options: ClassVar[type] = TransformerOptions
    shapes = SEQUENCES
    reads_bytes = True

    def __init__(
        self, options: TransformerOptions, *, shape: tuple[int, ...], n_outputs: int | None
    ) -> None:
        super().__init__(options, shape=shape, n_outputs=n_outputs)
        self._input = SequenceInput(shape, width=options.dim)

    @property
    def layers(self) -> Mapping[str, int]:
        """The blocks, with the length of each position's vector."""
        return {f"block{i}": self.options.dim for i in range(self.options.n_blocks)}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Length of the mean position."""
        return (self.options.dim,)

    def init_body(self, seed: int) -> Params:
        """Draw all layers; norms start as the identity, position embeddings small."""
        dim, n_in = self.options.dim, self._input.n_channels
        params = self._input.init(seed, 0)
        params["input.weight"] = fan_in_uniform(seed, 1, (dim, n_in), fan_in=n_in)
        params["input.place"] = 0.1 * fan_in_uniform(seed, 2, (self.shape[0], dim), fan_in=1)
        for i, block in enumerate(self.layers):
            index = _FIRST_BLOCK + _TENSORS_OF_BLOCK * i
            shapes = {
                "mix.weight": (3 * dim, dim),
                "join.weight": (dim, dim),
                "up.weight": (2 * dim, dim),
                "down.weight": (dim, 2 * dim),
            }
            for j, (name, shape) in enumerate(shapes.items()):
                drawn = fan_in_uniform(seed, index + j, shape, fan_in=shape[1])
                params[f"{block}.{name}"] = drawn
            params[f"{block}.up.bias"] = torch.zeros(2 * dim)
            params[f"{block}.down.bias"] = torch.zeros(dim)
            params |= _init_norm(f"{block}.before_mix", dim) | _init_norm(f"{block}.before_up", dim)
        return params | _init_norm("last", dim)

    def body(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map sequences to their mean position."""
        positions, is_real = self._input(params, x)
        x = positions @ params["input.weight"].T + params["input.place"]
        # an empty text attends to its first position, because a softmax over nothing is NaN
        first = torch.arange(is_real.shape[1], device=x.device) == 0
        may_see = ((is_real > 0) | first)[:, None, None, :]
        for block in self.layers:
            x = x + self._mix(params, block, x, may_see)
            inner = _norm(params, f"{block}.before_up", x)
            up, down = (f"{block}.{way}" for way in ("up", "down"))
            inner = F.relu(F.linear(inner, params[f"{up}.weight"], params[f"{up}.bias"]))
            x = x + F.linear(inner, params[f"{down}.weight"], params[f"{down}.bias"])
            x = x if modulate is None else modulate(block, x.transpose(1, 2)).transpose(1, 2)
        x = _norm(params, "last", x) * is_real[:, :, None]
        return x.sum(dim=1) / is_real.sum(dim=1, keepdim=True).clamp(min=1.0)

    def _mix(self, params: Mapping[str, Tensor], block: str, x: Tensor, may_see: Tensor) -> Tensor:
        mixed = _norm(params, f"{block}.before_mix", x) @ params[f"{block}.mix.weight"].T
        parts = (split_heads(part, self.options.heads) for part in mixed.chunk(3, dim=2))
        return join_heads(attend(*parts, mask=may_see)) @ params[f"{block}.join.weight"].T


def _init_norm(name: str, dim: int) -> Params:
    return {f"{name}.scale": torch.ones(dim), f"{name}.shift": torch.zeros(dim)}


def _norm(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Apply layer norm to each position (Ba et al. 2016, arXiv:1607.06450)."""
    return F.layer_norm(x, x.shape[-1:], params[f"{name}.scale"], params[f"{name}.shift"])
