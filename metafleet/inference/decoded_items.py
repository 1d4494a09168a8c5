"""The decoded examples of a folder, in the form of a model's inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metafleet.data.decoding.columns import Decoded
from metafleet.data.decoding.registry import get_decoder
from metafleet.episode import presence_key
from metafleet.inference.brightness import mean_brightness
from metafleet.inference.input_spec import InputSpec


@dataclass(frozen=True, slots=True)
class Items:
    """Decoded examples, on disk.

    Attributes:
        names: file or row of each example.
        labels: class of each example; "" if the folder gives no class.
        notes: what was decided and what was left out, one line each.
        lost: classes of which every item was left out.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    lost: tuple[str, ...]
    _specs: Mapping[str, InputSpec]
    _decoded: Decoded
    _rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    def inputs(self, chosen: Sequence[int]) -> dict[str, Tensor]:
        """Return the chosen items as float32 inputs, with a mask for each modality with gaps."""
        rows = [self._rows[number] for number in chosen]
        found: dict[str, Tensor] = {}
        for name, spec in self._specs.items():
            mask = self._mask(name)
            if mask.all():
                found[name] = self._values(name, spec, rows)
                continue
            present = torch.from_numpy(mask[list(chosen)]).to(torch.float32)
            values = self._values(name, spec, rows)
            found[name] = values * present.view(-1, *[1] * (values.dim() - 1))
            found[presence_key(name)] = present
        return found

    def brightness(self, modality: str) -> float | None:
        """Return the mean of the pictures as model inputs; None if there are none."""
        present = np.flatnonzero(self._mask(modality)).tolist()
        if not present:
            return None
        pixels = self._decoded.arrays[modality]
        found = mean_brightness(pixels, [self._rows[number] for number in present])
        return 1.0 - found if found is not None and self._specs[modality].is_inverted else found

    def lacking(self, modality: str) -> list[str]:
        """Return the names of items without a modality."""
        return [self.names[number] for number in np.flatnonzero(~self._mask(modality))]

    def classes_without(self, modality: str) -> list[str]:
        """Return the classes of which no item has a modality."""
        having = {self.labels[number] for number in np.flatnonzero(self._mask(modality))}
        return sorted(set(self.labels) - having)

    def _mask(self, modality: str) -> Any:
        if modality not in self._decoded.masks:
            return np.zeros(len(self._rows), np.bool_)
        return np.asarray(self._decoded.masks[modality])[list(self._rows)]

    def _values(self, modality: str, spec: InputSpec, rows: list[int]) -> Tensor:
        if modality not in self._decoded.arrays:
            return torch.zeros(len(rows), *spec.shape)
        values = torch.from_numpy(np.array(self._decoded.arrays[modality][rows])).to(torch.float32)
        if not get_decoder(spec.kind).is_pixels or spec.is_encoded:
            return values
        values = values.div_(255)
        return 1.0 - values if spec.is_inverted else values
