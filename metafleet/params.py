"""Named tensors: the learned state, its flat form, and digests."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Params = dict[str, Tensor]
"""Name -> tensor; names are sorted wherever order matters."""


@dataclass(frozen=True, slots=True)
class MetaState:
    """The state that the outer loop learns.

    Attributes:
        params: tensors that the meta-gradient differentiates.
        buffers: the running statistics of batch norm, which are averaged over episodes and not
            differentiated. Empty for models without running statistics.
    """

    params: Params
    buffers: Params


def dot(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Tensor:
    """Return the inner product of the tensors in ``one`` with those of the same name in ``other``.

    A complex number is treated as two real numbers.
    """
    terms = []
    for name, value in one.items():
        if value.is_complex():
            terms.append((value.conj() * other[name]).real.sum())
        else:
            terms.append((value * other[name]).sum())
    return torch.stack(terms).sum()


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, dtypes, shapes and bytes to a sha256 hex digest, in order of name."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def flatten_state(state: MetaState) -> Params:
    """Join params and buffers, under their names in messages and files."""
    return named("params", state.params) | named("buffers", state.buffers)


def schema_of(state: MetaState) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return name -> (dtype such as "float32", shape) of ``flatten_state(state)``."""
    return {
        name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in flatten_state(state).items()
    }


def unflatten_state(tensors: Mapping[str, Tensor]) -> MetaState:
    """Undo ``flatten_state``; sort the names, because learners may sum over them."""
    ordered = {name: tensors[name] for name in sorted(tensors)}
    return MetaState(parted(ordered, "params"), parted(ordered, "buffers"))


def named(group: str, tensors: Mapping[str, Tensor]) -> Params:
    """Return the tensors as "<group>.<name>"."""
    return {f"{group}.{name}": tensor for name, tensor in tensors.items()}


def parted(tensors: Mapping[str, Tensor], group: str) -> Params:
    """Return the tensors that ``named`` put under ``group``, by their original names."""
    prefix = f"{group}."
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
