"""Selection of the modalities that the examples of an episode show."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metafleet.seeds import CounterRng

Mask = npt.NDArray[np.bool_]
"""[examples, modalities]: True where an example shows a modality."""


def drop_modalities(shown: Mask, rate: float, rng: CounterRng) -> Mask:
    """Set each True of ``shown`` to False with probability ``rate``; keep at least one per row.

    For each modality that an example shows, in order, one number is drawn from the uniform
    distribution. If all modalities of an example would be dropped, one more number selects which of
    the modalities stays.
    """
    if rate == 0.0:
        return shown
    kept = np.zeros_like(shown)
    for row, modalities in enumerate(shown):
        there = np.flatnonzero(modalities).tolist()
        stays = [m for m in there if rng.uniform() >= rate]
        if there and not stays:
            stays = [there[rng.integer(len(there))]]
        kept[row, stays] = True
    return kept


def shown_modalities(
    present: Sequence[Mask | None], rows: Sequence[int], allowed: Sequence[bool]
) -> Mask:
    """Return which modalities the items in ``rows`` show.

    Args:
        present: for each modality, bool [items]; None if all items have it.
        rows: the items' row numbers.
        allowed: for each modality, whether it may be shown.
    """
    shown = np.zeros((len(rows), len(present)), np.bool_)
    for m, (mask, is_allowed) in enumerate(zip(present, allowed, strict=True)):
        if is_allowed:
            shown[:, m] = True if mask is None else mask[list(rows)]
    return shown
