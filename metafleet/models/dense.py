"""Stacks of linear layers with ReLU between them, used as parts of larger networks."""

import itertools
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor

from metafleet.models.init import fan_in_uniform
from metafleet.params import Params


def init_dense(
    seed: int, index: int, name: str, sizes: Sequence[int], *, has_bias: bool = True
) -> Params:
    """Draw weights and biases from U(-b, b), b = 1 / sqrt(fan_in).

    Args:
        seed: the run's seed.
        index: index of the first of the 2 (len(sizes) - 1) tensors in the model.
        name: prefix of the tensors' names.
        sizes: number of input features, of units in each hidden layer, and of outputs.
        has_bias: False where biases would have no effect, for example on attention keys.
    """
    params: Params = {}
    for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        at = index + 2 * i
        params[f"{name}.{i}.weight"] = fan_in_uniform(seed, at, (n_out, n_in), fan_in=n_in)
        if has_bias:
            params[f"{name}.{i}.bias"] = fan_in_uniform(seed, at + 1, (n_out,), fan_in=n_in)
    return params


def dense(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Map x [..., n_in] to [..., n_out]; no ReLU after the last layer."""
    i = 0
    while f"{name}.{i}.weight" in params:
        x = F.relu(x) if i > 0 else x
        x = F.linear(x, params[f"{name}.{i}.weight"], params.get(f"{name}.{i}.bias"))
        i += 1
    return x
