"""The score of predictions on a data set; light to import, for commands that only show figures."""

from collections.abc import Mapping
from typing import Any


def score_name(options: Mapping[str, Any]) -> str:
    """Return what predictions on a data set are scored by, in [0, 1]; higher is better.

    Args:
        options: the configuration's ``[data]`` table.
    """
    return "mean average precision" if options.get("label_separator") else "accuracy"
