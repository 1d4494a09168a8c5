"""How rows of outputs become one row of features."""

from collections.abc import Sequence

import numpy as np

from metafleet.encoders.base import Array
from metafleet.errors import ConfigError


def choose_pooling(encoder: str, asked: str, known: Sequence[str]) -> str:
    """Return the pooling that is asked for, or the first of ``known`` by default.

    Raises:
        ConfigError: the encoder has no such pooling.
    """
    if asked and asked not in known:
        expected = " or ".join(map(repr, known)) or "none"
        raise ConfigError(f"pooling={asked!r}; encoder {encoder!r} expects {expected}")
    return asked or (known[0] if known else "")


def pool_rows(rows: Array, pooling: str) -> Array:
    """Pool rows [n, rows, features] to float32 [n, features]; "flat": [n, rows x features].

    Args:
        rows: outputs, all of which count.
        pooling: "class_token" (the first row), "mean", "max" or "flat".
    """
    if pooling == "flat":
        found = rows.reshape(len(rows), -1)
    elif pooling == "class_token":
        found = rows[:, 0]
    else:
        found = rows.max(axis=1) if pooling == "max" else rows.mean(axis=1)
    return np.ascontiguousarray(found, np.float32)
