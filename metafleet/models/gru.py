"""A GRU along a sequence: the bytes of a text, or the points of a pen stroke."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.encoder import Encoder, require_counts
from metafleet.models.recurrent import gru_cell, init_gru
from metafleet.models.sequence_input import SEQUENCES, SequenceInput
from metafleet.params import Params


@dataclass(frozen=True, slots=True)
class GruOptions:
    """Options of ``Gru``.

    Attributes:
        units: units of the hidden state, >= 1.
        width: length of a byte's embedding, >= 1. It is not used for points, which are not
            embedded.
        modality: modality to read; its examples are [length, d], or [length] bytes.
    """

    units: int = 64
    width: int = 32
    modality: str = "text"

    def __post_init__(self) -> None:
        require_counts(self, "units", "width")


class Gru(Encoder[GruOptions]):
    """Read the sequence once. The features are the last hidden state and the mean of all states.

    The state does not change at padded positions.

    Source: Cho et al. 2014, arXiv:1406.1078.
    """

    name: ClassVar[str] = "gru"
    Options: ClassVar[type] = GruOptions
    shapes = SEQUENCES
    reads_bytes = True

    def __init__(
        self, options: GruOptions, *, shape: tuple[int, ...], n_outputs: int | None
    ) -> None:
        super().__init__(options, shape=shape, n_outputs=n_outputs)
        self._input = SequenceInput(shape, width=options.width)

    @property
    def layers(self) -> Mapping[str, int]:
        """The hidden state at every position, [n, units, length]."""
        return {"hidden": self.options.units}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Length of the last state and the mean state together."""
        return (2 * self.options.units,)

    def init_body(self, seed: int) -> Params:
        """Draw the embedding and the cell."""
        n_inputs = self._input.n_channels
        cell = init_gru(seed, 1, "cell", n_inputs=n_inputs, n_units=self.options.units)
        return self._input.init(seed, 0) | cell

    def body(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map sequences to features."""
        positions, is_real = self._input(params, x)
        hidden = positions.new_zeros(positions.shape[0], self.options.units)
        seen = []
        for position, real in zip(positions.unbind(1), is_real.unbind(1), strict=True):
            moved = gru_cell(params, "cell", position, hidden)
            hidden = hidden + real[:, None] * (moved - hidden)
            seen.append(hidden)
        states = torch.stack(seen, dim=2)  # [n, units, length]
        states = states if modulate is None else modulate("hidden", states)
        # padding does not change the state, so the last position has the final state
        n_real = is_real.sum(dim=1, keepdim=True).clamp(min=1.0)
        mean = (states * is_real[:, None, :]).sum(dim=2) / n_real
        return torch.cat([states[:, :, -1], mean], dim=1)
