"""The name of a data set's score. Commands that only show results import this quickly."""

from collections.abc import Mapping
from typing import Any


def score_name(options: Mapping[str, Any]) -> str:
    """Return the name of the score of predictions.

    The score is in [0, 1], and higher is better.

    Args:
        options: the configuration's ``[data]`` table.
    """
    return "mean average precision" if options.get("label_separator") else "accuracy"
