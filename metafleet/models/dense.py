"""Plain stacks of linear layers with ReLU between them, as parts of larger networks."""

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
        index: position of the first of 2 (len(sizes) - 1) tensors in their model.
        name: what their names begin with.
        sizes: features that go in, of each hidden layer, and that come out.
        has_bias: False where biases would have no effect, as on the keys of an attention.
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
