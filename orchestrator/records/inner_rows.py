"""The rows of a table of results after each inner step."""

from collections.abc import Iterator
from typing import Any, Final

from metafleet.db.records import InnerCurveRecord

_OF_CURVE: Final = ("split", "label", "step", "episodes")
_OF_STEP: Final = {
    "support_loss": "support_losses",
    "support_accuracy": "support_accuracies",
    "query_loss": "query_losses",
    "query_loss_ci95": "query_losses_ci95",
    "query_accuracy": "query_accuracies",
    "query_accuracy_ci95": "query_accuracies_ci95",
}
"""Column -> field with a number for each inner step."""

INNER_COLUMNS: Final = (*_OF_CURVE, "inner_step", *_OF_STEP)


def inner_rows(curve: InnerCurveRecord) -> Iterator[dict[str, Any]]:
    """Yield a row for each inner step, from 0 for the parameters before the first step."""
    of_curve = {name: getattr(curve, name) for name in _OF_CURVE}
    series = {column: getattr(curve, name) for column, name in _OF_STEP.items()}
    for index in range(len(curve.query_losses)):
        of_step = {name: values[index] if values else None for name, values in series.items()}
        yield of_curve | {"inner_step": index} | of_step
