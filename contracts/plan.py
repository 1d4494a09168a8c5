"""The plan of a run: the description of its work, and of the features that it reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from metafleet.data.prepared.data_ref import DataRef
from metafleet.errors import ContractError
from metafleet.workload_spec import WorkloadSpec

_FEATURES = "features"


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What workers need to build a run's workload.

    Attributes:
        spec: the workload.
        features: prepared data that hold features of a pretrained encoder. Workers open exactly
            these bytes, and never compute features.
    """

    spec: WorkloadSpec
    features: tuple[DataRef, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the plan as JSON."""
        values = self.spec.to_json()
        if self.features:
            values[_FEATURES] = [ref.to_json() for ref in self.features]
        return json.dumps(values, sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> "RunPlan":
        """Read what ``to_bytes`` wrote.

        Raises:
            ContractError: the text is not a plan.
        """
        values = json.loads(text)
        if not isinstance(values, Mapping):
            raise ContractError(f"a plan is {values!r:.80}; expected a table")
        features = values.get(_FEATURES, [])
        if not isinstance(features, list):
            raise ContractError(f"a plan has features={features!r:.80}; expected a list")
        spec = {key: value for key, value in values.items() if key != _FEATURES}
        return cls(WorkloadSpec.from_json(spec), tuple(map(DataRef.from_json, features)))
