"""Items that are copies of others: one in a support set tells the class of the other in a query."""

import hashlib
from collections.abc import Sequence

import numpy as np

from metafleet.data.decoding.columns import Decoded

_DIGEST_BYTES = 16


def find_repeats(decoded: Decoded, rows: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs (row, earlier row) of items that are the same in all modalities they have.

    It is decoded content that is compared, so that copies, links and files that differ in what no
    model sees are found alike.

    Args:
        decoded: arrays and masks.
        rows: which rows are looked at.
    """
    first: dict[bytes, int] = {}
    pairs = ((row, first.setdefault(_digest(decoded, row), row)) for row in rows)
    return [(row, earlier) for row, earlier in pairs if row != earlier]


def _digest(decoded: Decoded, row: int) -> bytes:
    sha = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for modality, array in decoded.arrays.items():
        is_there = bool(decoded.masks[modality][row])
        sha.update(b"1" if is_there else b"0")
        if is_there:
            sha.update(np.ascontiguousarray(array[row]).reshape(-1).view(np.uint8).data)
    return sha.digest()
