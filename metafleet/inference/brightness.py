"""The brightness of pictures, to detect pictures that are inverted against training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLE = 256
"""Maximum number of pictures to read."""
_CLEARLY = 0.3


def mean_brightness(pixels: npt.NDArray[Any], rows: Sequence[int]) -> float | None:
    """Return the mean brightness of stored pictures, in [0, 1]; None if there are no pictures.

    Args:
        pixels: uint8 [n, ...].
        rows: row numbers of the pictures. At most ``SAMPLE`` of these rows are read, at even
            distances.
    """
    if not rows:
        return None
    places = np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).round().astype(int)
    return round(float(pixels[[rows[place] for place in places]].mean()) / 255, 4)


def looks_inverted(found: float, trained: float) -> bool:
    """Return whether inverted pictures would be clearly closer to the training pictures.

    The result is always False if the mean brightness of the training pictures is between 0.35 and
    0.65, because such pictures are neither light nor dark.
    """
    return abs(1.0 - found - trained) + _CLEARLY < abs(found - trained)
