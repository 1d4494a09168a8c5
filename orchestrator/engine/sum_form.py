"""The form in which the sums of a step travel, are checked and are added up."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metafleet.contracts.codec import (
    Buffer,
    WireDtype,
    decode_flat,
    decode_tensors,
    encoded_bytes,
    is_uniform,
    narrow_schema,
    schema_of,
    split_flat,
    widen,
)
from metafleet.errors import NotFiniteError
from metafleet.params import MetaState, Params, flatten_state

_ALL = "all tensors"


class SumForm:
    """Sums shaped like a state.

    Where all tensors have one dtype they are added up as one: the same bits, and a tenth of the
    calls.

    Args:
        state: what sums are shaped like.
        wire_dtype: how float32 tensors travel.
    """

    def __init__(self, state: MetaState, wire_dtype: WireDtype) -> None:
        self._schema = schema_of(flatten_state(state))
        self._wire_schema = narrow_schema(self._schema, wire_dtype)
        self._is_flat = is_uniform(self._schema)
        self.n_bytes = encoded_bytes(self._wire_schema)
        """Length of an encoded sum."""

    def decode(self, data: Buffer, *, what: str) -> Params:
        """Decode a sum into what a ``TreeReducer`` adds up.

        Raises:
            ContractError: it does not fit the state, or is not finite; ``what`` names it.
        """
        if not self._is_flat:
            found: Params = widen(decode_tensors(data, self._wire_schema), self._schema)
        else:
            dtype, _ = next(iter(self._schema.values()))
            flat = decode_flat(data, self._wire_schema)
            found = {_ALL: flat.to(getattr(torch, dtype))}
        _check_finite(found, what)
        return found

    def split(self, total: Params) -> Params:
        """Name the tensors of what came out of the reducer."""
        return split_flat(total[_ALL], self._wire_schema) if self._is_flat else total


def _check_finite(sums: Mapping[str, Tensor], what: str) -> None:
    for name, tensor in sums.items():
        # NaN and infinity survive in a sum, which takes a fortieth of the time; it may overflow,
        # so only a finite one is believed
        if not bool(tensor.sum().isfinite()) and not bool(tensor.isfinite().all()):
            raise NotFiniteError(f"{what} is not finite ({name})")
