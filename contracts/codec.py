"""Named tensors to bytes and back: safetensors, checked against a schema before allocating."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from metafleet.errors import ContractError

Schema = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> (torch dtype name such as "float32", shape)."""

_HEADER_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 8 * 2**20
_UNREADABLE = (
    *(ValueError, AttributeError, TypeError, KeyError, IndexError),
    *(OverflowError, RecursionError),  # from 1e999, and from brackets nested without end
)
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}


def schema_of(tensors: Mapping[str, Tensor]) -> Schema:
    """Describe named tensors: what ``decode_tensors`` needs to check others against."""
    return {
        name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in tensors.items()
    }


def encode_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Encode named tensors; the same tensors give the same bytes."""
    return save({name: _apart(tensors[name]) for name in sorted(tensors)})


def decode_tensors(data: bytes, schema: Schema) -> dict[str, Tensor]:
    """Decode named tensors that must be exactly those of ``schema``.

    Raises:
        ContractError: truncated, oversized, or other names, dtypes or shapes than promised. Found
            from the header, before any tensor is allocated.
    """
    header = _read_header(data)
    if header.keys() != schema.keys():
        missing, extra = sorted(schema.keys() - header), sorted(header.keys() - schema)
        raise ContractError(
            f"tensors do not fit the model: missing {missing[:3]}, unexpected {extra[:3]}"
        )
    for name, (dtype, shape) in schema.items():
        entry = header[name]
        found = (_DTYPES.get(str(entry.get("dtype"))), entry.get("shape"))
        if found != (dtype, list(shape)):
            raise ContractError(
                f"tensor {name!r} is {found[0]} {found[1]!r:.80}; "
                f"the model has {dtype} {list(shape)}"
            )
    try:
        return load(data)
    except Exception as error:  # safetensors raises its own error, or ValueError, by version
        raise ContractError(f"tensors cannot be decoded: {error}") from error


def check_digest(data: bytes, sha256: str, *, what: str) -> None:
    """Raise ContractError when ``data`` does not hash to ``sha256``."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ContractError(
            f"{what} hashes to {found[:12]}..., promised was {sha256[:12]}...; "
            "it was damaged on the way"
        )


def _apart(tensor: Tensor) -> Tensor:
    """Copy: safetensors refuses tensors that share memory, as tied parameters do."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _read_header(data: bytes) -> dict[str, Any]:
    n_header = int.from_bytes(data[:_HEADER_LENGTH_BYTES], "little")
    body = _HEADER_LENGTH_BYTES + n_header
    if len(data) < _HEADER_LENGTH_BYTES or n_header > _MAX_HEADER_BYTES or body > len(data):
        raise ContractError(
            f"{len(data)} bytes are not safetensors (header of {n_header}); truncated or foreign"
        )
    try:
        header = json.loads(data[_HEADER_LENGTH_BYTES:body])
        header.pop("__metadata__", None)
        ends = [int(entry["data_offsets"][1]) for entry in header.values()]
    except _UNREADABLE as error:
        raise ContractError(f"the safetensors header cannot be read: {error!r:.200}") from error
    if max(ends, default=0) != len(data) - body:
        raise ContractError(
            f"tensors take {max(ends, default=0)} bytes by their header but {len(data) - body} "
            "came; truncated or padded"
        )
    return dict(header)
