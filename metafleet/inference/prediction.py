"""Predictions of a model."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Prediction:
    """The class of one item.

    Attributes:
        item: the item's file or row, such as "photos/a.png" or "metadata.csv:17".
        label: the most likely class.
        probability: probability of ``label``, in (0, 1].
        probabilities: class -> probability, in the model's order of classes; they sum to 1.
        given: the item's class in the folder itself; "" if it has none.
    """

    item: str
    label: str
    probability: float
    probabilities: Mapping[str, float]
    given: str = ""

    def columns(self) -> dict[str, str | float]:
        """Return the columns of a table; the probability columns are "p(<class>)"."""
        first: dict[str, str | float] = {
            "item": self.item,
            "label": self.label,
            "probability": self.probability,
            "given": self.given,
        }
        return first | {f"p({name})": value for name, value in self.probabilities.items()}

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Value:
    """The predicted values of one item, in regression.

    Attributes:
        item: the item's row, such as "points.csv:3".
        values: [target_dim].
    """

    item: str
    values: tuple[float, ...]

    def columns(self) -> dict[str, str | float]:
        """Return the columns of a table: "y", or "y0", "y1", ..."""
        names = ["y"] if len(self.values) == 1 else [f"y{i}" for i in range(len(self.values))]
        return {"item": self.item, **dict(zip(names, self.values, strict=True))}

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions for a folder; iterating yields the rows.

    Attributes:
        rows: one for each item, in the order of the items; ``Value`` in regression.
        notes: decisions and omissions while the items were read, one line each.
    """

    rows: tuple[Prediction | Value, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)
