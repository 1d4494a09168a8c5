"""What episodes are drawn from: items sorted by class, each of several modalities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Modality:
    """One kind of data of every item.

    Attributes:
        shape: shape of one decoded example.
        gather: row numbers -> float32 tensor [len(rows), *shape], a copy; zeros where absent.
        present: bool [items], which of all rows have it; None: all. Where it is given, examples
            come with the input ``presence_key``.
        is_text: it is bytes of UTF-8, padded with zeros.
        kind: what it was made of: "image", "audio" ..., of ``metafleet.data.decoding``; "": as its
            name says.
        is_text_features: it is features of texts, which cannot be searched.
    """

    shape: tuple[int, ...]
    gather: Callable[[Sequence[int]], Tensor]
    present: npt.NDArray[np.bool_] | None = None
    is_text: bool = False
    kind: str = ""
    is_text_features: bool = False


@dataclass(frozen=True, slots=True)
class ClassRows:
    """Where one class lies: rows [start, start + count) of every modality."""

    start: int
    count: int
