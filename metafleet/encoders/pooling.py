"""Pool rows of outputs to one row of features."""

from collections.abc import Sequence

import numpy as np

from metafleet.encoders.base import Array
from metafleet.errors import ConfigError


def choose_pooling(encoder: str, asked: str, known: Sequence[str]) -> str:
    """Return the requested pooling, or by default the first of ``known``.

    Raises:
        ConfigError: the encoder does not support this pooling.
    """
    if asked and asked not in known:
        expected = " or ".join(map(repr, known)) or "none"
        raise ConfigError(f"pooling={asked!r}; encoder {encoder!r} expects {expected}")
    return asked or (known[0] if known else "")


def pool_rows(rows: Array, pooling: str) -> Array:
    """Pool the rows of each item.

    Args:
        rows: [n, rows, features]. All rows are pooled; there must be no padding.
        pooling: "class_token" (the first row), "mean", "max" or "flat" (all rows, concatenated).

    Returns:
        float32 [n, features]; for "flat", [n, rows * features].
    """
    if pooling == "flat":
        found = rows.reshape(len(rows), -1)
    elif pooling == "class_token":
        found = rows[:, 0]
    else:
        found = rows.max(axis=1) if pooling == "max" else rows.mean(axis=1)
    return np.ascontiguousarray(found, np.float32)
