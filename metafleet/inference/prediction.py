"""Predictions of a model."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from metafleet.inference.doubts import Doubt
from metafleet.inference.labelling import Labelling

LABELS_BETWEEN: Final = " | "
"""Between the labels of a set in a table."""
ASK: Final = "ask a person"
ACCEPT: Final = "accept"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The class of one item.

    Attributes:
        item: the item's file or row, such as "photos/a.png" or "metadata.csv:17".
        label: the most likely class.
        probability: probability of ``label``, in (0, 1].
        probabilities: class -> probability, in the model's order of classes. The probabilities sum
            to 1.
        given: the class that the folder gives the item; "" if the folder gives no class.
        doubt: the uncertainty about the item, if it was requested.
    """

    item: str
    label: str
    probability: float
    probabilities: Mapping[str, float]
    given: str = ""
    doubt: Doubt = field(default_factory=Doubt)

    @property
    def asks_a_person(self) -> bool:
        """Whether a label set does not have exactly one label, or the item may be unknown."""
        labels = self.doubt.labels
        return bool(self.doubt.unknown) or (labels is not None and len(labels) != 1)

    def columns(self) -> dict[str, str | float]:
        """Return the columns of a table; the probability columns are "p(<class>)"."""
        first: dict[str, str | float] = {
            "item": self.item,
            "label": self.label,
            "probability": self.probability,
            "given": self.given,
        }
        return (
            first
            | self._told()
            | {f"p({name})": value for name, value in self.probabilities.items()}
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, including doubts if they were requested."""
        values = asdict(self)
        del values["doubt"]
        asked = {name: it for name, it in asdict(self.doubt).items() if it is not None}
        return values | asked | ({"verdict": self._verdict()} if asked else {})

    def _told(self) -> dict[str, str | float]:
        """Return the columns of doubts that were asked for."""
        columns: dict[str, str | float] = {}
        if self.doubt.labels is not None:
            columns["labels"] = LABELS_BETWEEN.join(self.doubt.labels)
        if self.doubt.unknown is not None:
            columns["unknown"] = "yes" if self.doubt.unknown else "no"
        return columns | ({"verdict": self._verdict()} if columns else {})

    def _verdict(self) -> str:
        return ASK if self.asks_a_person else ACCEPT


@dataclass(frozen=True, slots=True)
class Value:
    """The predicted values of one item, in regression.

    Attributes:
        item: the item's row, such as "points.csv:3".
        values: the values, [target_dim].
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
    """The predictions for the items of a folder. Iteration yields the rows.

    Attributes:
        rows: one row per item, in the order of the items. A row is a ``Prediction``; it is a
            ``Labelling`` if items may have several labels, and a ``Value`` in regression.
        notes: what was decided and what was left out when the items were read, one line each.
    """

    rows: tuple[Prediction | Labelling | Value, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)
