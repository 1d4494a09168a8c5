"""The rows of the items of an episode: which items an address draws, not what they contain."""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from metafleet.episode import CLASS_TEXT, ExampleSet, is_presence_key
from metafleet.episodes.items import ClassRows, Modality, Rows


@dataclass(frozen=True, slots=True)
class SampledRows:
    """The classes and the items of one episode.

    Attributes:
        classes: the classes, in the order of the targets.
        support: row of each support example, in the order of the examples.
        query: row of each query example, in the order of the examples.
        part: label of the part of a mixture that supplies the episode; "" without a mixture.
    """

    classes: tuple[str, ...]
    support: tuple[int, ...]
    query: tuple[int, ...]
    part: str = ""


def numbered(modalities: Mapping[str, Modality]) -> dict[str, Modality]:
    """Return modalities in which the value of an item is the number of its row plus 1.

    An episode of these modalities has the same items as an episode of the given modalities, because
    the draws depend on the masks of the modalities and not on their values. An example that does
    not show a modality has the value 0.
    """
    return {
        name: replace(it, shape=(1,), gather=_row_numbers, views=1, gather_views=None)
        for name, it in modalities.items()
    }


def rows_in(examples: ExampleSet) -> tuple[int, ...]:
    """Return the row of each example of an episode of ``numbered`` modalities."""
    shown = [
        values.double()
        for name, values in examples.inputs.items()
        if not is_presence_key(name) and name != CLASS_TEXT
    ]
    numbers = torch.stack(shown).amax(dim=0).reshape(-1)
    return tuple(int(number) - 1 for number in numbers.tolist())


def owners(classes: Sequence[ClassRows], rows: Sequence[int]) -> list[int]:
    """Return, for each row, the position in ``classes`` of the class that has the row."""
    having = sorted((each.start, index) for index, each in enumerate(classes) if each.count)
    starts = [start for start, _ in having]
    return [having[bisect.bisect_right(starts, row) - 1][1] for row in rows]


def _row_numbers(rows: Rows) -> Tensor:
    return torch.as_tensor(np.asarray(rows), dtype=torch.float64).reshape(-1, 1) + 1
