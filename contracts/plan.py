"""Plans that jobs name by digest: of a run's work and its features, or of encoding items."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from metafleet.contracts.codec import Schema
from metafleet.data.prepared.data_ref import DataRef
from metafleet.encoders.base import Array
from metafleet.encoders.choice import EncoderName
from metafleet.errors import ContractError
from metafleet.options import parse_record
from metafleet.workload_spec import WorkloadSpec

_FEATURES: Final = "features"
ITEMS: Final = "items"
"""Name of the tensor that a job of kind "encode" reads."""

ROWS: Final = "rows"
"""Name of the tensor that it returns."""


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


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """What workers need to encode items.

    Attributes:
        encoder: how to find the encoder.
        identity: the encoder's identity. If the encoder of a worker has another identity, the
            worker refuses the job.
        dtype, shape: dtype (as numpy spells it with its byte order, such as "<f4") and shape of one
            decoded item.
        n_features: number of features of an item.
    """

    encoder: EncoderName
    identity: Mapping[str, Any]
    dtype: str
    shape: tuple[int, ...]
    n_features: int

    def items_schema(self, n_items: int) -> Schema:
        """Return the schema of the items of a job: their bytes, because torch lacks some dtypes."""
        n_bytes = np.dtype(self.dtype).itemsize * math.prod(self.shape)
        return {ITEMS: ("uint8", (n_items, n_bytes))}

    def pack_items(self, items: Array) -> dict[str, Tensor]:
        """Return items [n, *shape] as tensors that match ``items_schema``."""
        rows = np.ascontiguousarray(items).reshape(len(items), -1)
        return {ITEMS: torch.from_numpy(rows.view(np.uint8))}

    def unpack_items(self, tensors: Mapping[str, Tensor]) -> Array:
        """Return the items in tensors that ``pack_items`` returned."""
        return tensors[ITEMS].numpy().view(self.dtype).reshape(-1, *self.shape)

    def rows_schema(self, n_items: int) -> Schema:
        """Return the schema of their features."""
        return {ROWS: ("float32", (n_items, self.n_features))}

    def to_bytes(self) -> bytes:
        """Return the plan as JSON."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> "EncodingPlan":
        """Read what ``to_bytes`` wrote.

        Raises:
            ContractError: the text is not such a plan.
        """
        what = "a plan of encoding"
        return parse_record(cls, json.loads(text), where=what, error=ContractError)
