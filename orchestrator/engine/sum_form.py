"""The form in which the sums of a step are sent, checked and added up."""

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
    """Decodes gradient sums. A sum has a tensor for each tensor of the state.

    If all tensors have the same dtype, they are joined into one tensor before sums are added. The
    bits are the same as with separate tensors, and a tenth of the calls is needed.

    Args:
        state: a state with the names, shapes and dtypes of the sums' tensors.
        wire_dtype: type to which float32 tensors are converted for sending.
    """

    def __init__(self, state: MetaState, wire_dtype: WireDtype) -> None:
        self._schema = schema_of(flatten_state(state))
        self._wire_schema = narrow_schema(self._schema, wire_dtype)
        self._is_flat = is_uniform(self._schema)
        self.n_bytes = encoded_bytes(self._wire_schema)
        """Length of an encoded sum."""

    def decode(self, data: Buffer, *, what: str) -> Params:
        """Return a sum in the form that a ``TreeReducer`` needs. Messages call the sum ``what``.

        Raises:
            ContractError: the sum does not fit the state or is not finite.
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
        """Split the reducer's total into named tensors."""
        return split_flat(total[_ALL], self._wire_schema) if self._is_flat else total


def _check_finite(sums: Mapping[str, Tensor], what: str) -> None:
    for name, tensor in sums.items():
        # a sum over the tensor keeps NaN and infinity and takes a fortieth of the time, but it may
        # overflow: only trust it if it is finite
        if not bool(tensor.sum().isfinite()) and not bool(tensor.isfinite().all()):
            raise NotFiniteError(f"{what} is not finite ({name})")
