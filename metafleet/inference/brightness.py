"""How light pictures are, so that ink on paper is not taken for chalk on a board."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLE = 256
"""Pictures that are looked at, at most."""
_CLEARLY = 0.3


def mean_brightness(pixels: npt.NDArray[Any], rows: Sequence[int]) -> float | None:
    """Return the mean of pictures in [0, 1], as they are stored; None without any.

    Args:
        pixels: uint8 [n, ...].
        rows: which of them; ``SAMPLE`` of them, evenly spread, are read.
    """
    if not rows:
        return None
    places = np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).round().astype(int)
    return round(float(pixels[[rows[place] for place in places]].mean()) / 255, 4)


def looks_inverted(found: float, trained: float) -> bool:
    """Tell whether pictures would be clearly more like those of training with light as dark.

    Never of pictures whose training was neither light nor dark (means of 0.35 to 0.65).
    """
    return abs(1.0 - found - trained) + _CLEARLY < abs(found - trained)
