"""The description of a run's work in plain JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metafleet.episode import EpisodeShape
from metafleet.errors import ContractError
from metafleet.execution.strategy import Strategy
from metafleet.options import parse_record, require
from metafleet.seeds import MAX_SEED

Options = Mapping[str, Any]
"""JSON values by name, always including "name", a name in the registry of its kind."""


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """Everything that determines the arithmetic of a run, as plain JSON values.

    Tables of options are sorted by key, so that the order of keys in a file or message has no
    effect. For example, this order cannot change the order in which a fusion joins its modalities.

    Attributes:
        seed: the run's seed. Episodes and the initial state are drawn from it.
        data: name and options of the data set.
        data_digest: sha256 of the prepared data and their split. Workers reject data with another
            digest.
        episodes: split -> shape of its episodes.
        model: name and options of the model.
        learner: name and options of the learner.
        execution: how to execute episodes.
    """

    seed: int
    data: Options
    data_digest: str
    episodes: Mapping[str, EpisodeShape]
    model: Options
    learner: Options
    execution: Strategy = field(default_factory=Strategy)

    def __post_init__(self) -> None:
        require(0 <= self.seed <= MAX_SEED, "seed", self.seed, "an integer in [0, 2**64)")
        for name in ("data", "model", "learner"):
            object.__setattr__(self, name, _sorted(getattr(self, name)))

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON values for ``from_json``."""
        return {
            "seed": self.seed,
            "data": dict(self.data),
            "data_digest": self.data_digest,
            "episodes": {split: _write_shape(shape) for split, shape in self.episodes.items()},
            "model": dict(self.model),
            "learner": dict(self.learner),
            "execution": self.execution.to_json(),
        }

    @classmethod
    def from_json(cls, values: object) -> "WorkloadSpec":
        """Parse the values that ``to_json`` returned. ``Workload.build`` checks the options.

        Raises:
            ContractError: the values do not describe a workload.
        """
        keys = set(cls.__dataclass_fields__)
        if not isinstance(values, Mapping) or set(values) != keys:
            found = sorted(values) if isinstance(values, Mapping) else type(values).__name__
            raise ContractError(f"workload holds {found}; expected the keys {sorted(keys)}")
        execution = Strategy.from_json(values["execution"])
        values = {**values, "execution": execution}
        return parse_record(cls, values, where="workload", error=ContractError)


def _sorted(value: Any) -> Any:
    """Return a JSON value with all its tables sorted by key."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return type(value)(map(_sorted, value))
    return value


def _write_shape(shape: EpisodeShape) -> dict[str, Any]:
    """Return JSON without default fields, so that ordinary episodes keep their description."""
    size = {"n_way": shape.n_way, "k_shot": shape.k_shot, "n_query": shape.n_query}
    special = shape.special().items()
    return size | {name: list(v) if isinstance(v, tuple) else v for name, v in special}
