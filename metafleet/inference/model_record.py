"""The record of a model's training and evaluation, which its folder stores and its card shows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from metafleet.errors import ModelError
from metafleet.options import parse_record

TRAINED: Final = "trained"
"""Label of results of the run's own state."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over episodes.

    Attributes:
        name: name of the metric: "accuracy" or "mean average precision", in [0, 1], or "loss".
        value: the mean.
        ci95: half of the width of the mean's 95 % confidence interval.
    """

    name: str
    value: float
    ci95: float

    @property
    def is_share(self) -> bool:
        """Whether the metric is in [0, 1] and shown in percent."""
        return self.name != "loss"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of evaluating a state on episodes of one split.

    Attributes:
        split: the split from which the episodes were drawn.
        judged: ``TRAINED`` if the model itself was evaluated; otherwise the name of the baseline
            that was evaluated.
        step: number of outer steps after which the state was evaluated.
        episodes: number of episodes.
        n_way, k_shot, n_query: shape of the episodes; n_way is 0 in regression.
        otherwise: settings of the table [episodes] that differ from those of the run, such as
            "k_shot=5".
        batch_norm: batch norm mode of the evaluated model.
        figures: the measured metrics; at least one.
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
        """Whether the result is for the model itself, not for a baseline."""
        return self.judged == TRAINED


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The record of a model's training and evaluation. Any part of it may be unknown.

    Attributes:
        results: results of the run that trained the state.
        config: complete configuration of the run; {} if there was none.
        data_licence: licence of the training data; "" if unknown.
        adapted_from: digest of the model folder that was adapted; "" if the state came from a run.
    """

    results: tuple[Result, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    data_licence: str = ""
    adapted_from: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "ModelRecord":
        """Parse the values that ``to_json`` returned.

        Raises:
            ModelError: the values do not describe a record.
        """
        return parse_record(cls, values, where="the record", error=ModelError)
