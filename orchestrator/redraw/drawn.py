"""An episode that was drawn again: its items, its predictions and a comparison with the record."""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from metafleet.data.decoding.shown import Shown


@dataclass(frozen=True, slots=True)
class DrawnItem:
    """A support or query example.

    Attributes:
        row: row of the item in the stored arrays; None if the example is computed.
        targets: positions in ``DrawnEpisode.classes`` of the example's class or labels; () in
            regression.
        shown: modality -> the item's forms. A modality that the example does not show is None.
        notes: modality -> why its item cannot be shown.
        predicted: position of the most likely class; None for support examples, if items may have
            several labels, and in regression.
        probabilities: probability of each class; () for support examples and in regression.
        inputs: the values of the input in regression, if there are at most a few.
        values: target values in regression.
        outputs: predicted values in regression.
    """

    row: int | None
    targets: tuple[int, ...]
    shown: Mapping[str, Shown | None] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    predicted: int | None = None
    probabilities: tuple[float, ...] = ()
    inputs: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    outputs: tuple[float, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """Return whether the predicted class is not the example's class."""
        return self.predicted is not None and self.predicted not in self.targets


@dataclass(frozen=True, slots=True)
class DrawnEpisode:
    """An episode of an evaluation.

    Attributes:
        index: number of the episode in the evaluation, from 0.
        classes: names of the classes in the order of the targets; () in regression.
        support: the support set.
        query: the query set, with predictions.
        loss: mean loss over the query set, computed now.
        accuracy: accuracy (or mean average precision) over the query set, computed now; None in
            regression.
        recorded_loss: the loss that the evaluation recorded.
        recorded_accuracy: the accuracy that the evaluation recorded.
    """

    index: int
    classes: tuple[str, ...]
    support: tuple[DrawnItem, ...]
    query: tuple[DrawnItem, ...]
    loss: float
    accuracy: float | None
    recorded_loss: float
    recorded_accuracy: float | None

    @property
    def is_as_recorded(self) -> bool:
        """Return whether the result computed now equals the recorded one.

        In classification, the accuracies must be equal. In regression, the losses may differ by
        rounding, because another processor may have computed the record.
        """
        if self.recorded_accuracy is not None:
            return self.accuracy == self.recorded_accuracy
        return abs(self.loss - self.recorded_loss) <= 1e-4 * max(1.0, abs(self.recorded_loss))

    @property
    def disagreement(self) -> str:
        """Return a sentence on how the result differs from the recorded one; "" if it does not."""
        if self.is_as_recorded:
            return ""
        if self.recorded_accuracy is None:
            return f"loss {self.loss:.6g} now, but {self.recorded_loss:.6g} was recorded"
        return f"accuracy {self.accuracy!r:.8} now, but {self.recorded_accuracy!r:.8} was recorded"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for ``from_json``; bytes are written in base64."""
        return asdict(self, dict_factory=_encoded) | {"is_as_recorded": self.is_as_recorded}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DrawnEpisode":
        """Parse the values that ``to_json`` returned."""
        own = {key: it for key, it in values.items() if key != "is_as_recorded"}
        for name in ("support", "query"):
            own[name] = tuple(map(_item, own[name]))
        return cls(**own | {"classes": tuple(own["classes"])})


def _encoded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: _text(value) for key, value in pairs}


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple) and value and isinstance(value[0], bytes):
        return [base64.b64encode(each).decode() for each in value]
    return value


def _item(values: Mapping[str, Any]) -> DrawnItem:
    lists = {key: tuple(it) if isinstance(it, list) else it for key, it in values.items()}
    shown = {name: it and _shown(it) for name, it in values["shown"].items()}
    return DrawnItem(**lists | {"shown": shown})


def _shown(values: Mapping[str, Any]) -> Shown:
    return Shown(
        pictures=tuple(map(base64.b64decode, values["pictures"])),
        drawing=values["drawing"],
        text=values["text"],
        sound=base64.b64decode(values["sound"]),
        numbers=tuple(values["numbers"]),
    )
