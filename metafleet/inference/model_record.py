"""What is known of how a model was trained and judged: kept with it, and told by its card."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from metafleet.errors import ModelError
from metafleet.options import parse_record

TRAINED: Final = "trained"
"""What results of a run's own state are labelled with."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over episodes.

    Attributes:
        name: of the metric: "accuracy", in [0, 1], or "loss".
        value: the mean.
        ci95: half width of its 95 % interval.
    """

    name: str
    value: float
    ci95: float

    @property
    def is_share(self) -> bool:
        """Return whether it is in [0, 1] and shown in percent."""
        return self.name != "loss"


@dataclass(frozen=True, slots=True)
class Result:
    """What a state reached on episodes of one split.

    Attributes:
        split: of the data.
        judged: ``TRAINED`` for the model itself; else what is compared with it.
        step: outer steps that the judged state had seen.
        episodes: how many.
        n_way, k_shot, n_query: shape of the episodes; n_way is 0 in regression.
        otherwise: assignments to keys of [episodes] that differ from the run's own, such as
            "k_shot=5".
        batch_norm: batch-norm mode of the judged model.
        figures: at least one.
    """

    split: str
    judged: str
    step: int
    episodes: int
    n_way: int
    k_shot: int
    n_query: int
    figures: tuple[Figure, ...]
    otherwise: tuple[str, ...] = ()
    batch_norm: str = ""

    @property
    def is_trained(self) -> bool:
        """Return whether the model itself was judged, not what it is compared with."""
        return self.judged == TRAINED


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """Plain facts; all may be unknown.

    Attributes:
        results: of the run that the state is from.
        config: the run's whole configuration; {} where there was none.
        data_licence: under which the training data come; "" where it is unknown.
        adapted_from: digest of the model that was adapted, "" where it came from a run.
    """

    results: tuple[Result, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    data_licence: str = ""
    adapted_from: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that ``from_json`` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "ModelRecord":
        """Read what ``to_json`` wrote.

        Raises:
            ModelError: it is something else.
        """
        return parse_record(cls, values, where="the record", error=ModelError)
