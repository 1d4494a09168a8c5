"""Waves as the decoder stores them: zeros after the end of a shorter sound."""

import numpy as np

from metafleet.encoders.base import Array


def sound_length(wave: Array, shortest: int) -> int:
    """Return the number of samples up to the last one that is not zero, but at least ``shortest``.

    Args:
        wave: [samples].
        shortest: least number that is returned, unless the wave has fewer samples.
    """
    there = np.flatnonzero(wave)
    n = int(there[-1]) + 1 if len(there) else 0
    return min(max(n, shortest), len(wave))
