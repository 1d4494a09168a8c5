"""Initial values that depend only on the run's seed; torch's global generators are not used."""

import math

import torch
from torch import Tensor

from metafleet.params import Params
from metafleet.seeds import CounterRng

AFTER_MODEL = 1_000
"""Index of a learner's first additional tensor; larger than that of any model tensor."""


def glorot_uniform(seed: int, index: int, shape: tuple[int, ...]) -> Tensor:
    """Draw a weight [out, in, ...] from U(-b, b), b = sqrt(6 / (fan_in + fan_out)).

    Args:
        seed: the run's seed.
        index: index of the tensor in the model. Each index has a separate random stream.
        shape: shape of the weight.

    Source: Glorot and Bengio 2010, eq. 16; the MAML authors' code uses it for convolutions.
    """
    receptive = math.prod(shape[2:])
    return _uniform(seed, index, shape, math.sqrt(6.0 / ((shape[0] + shape[1]) * receptive)))


def fan_in_uniform(seed: int, index: int, shape: tuple[int, ...], *, fan_in: int) -> Tensor:
    """Draw a weight or bias from U(-b, b), b = 1 / sqrt(fan_in), as ``torch.nn.Linear`` does."""
    return _uniform(seed, index, shape, 1.0 / math.sqrt(fan_in))


def init_conv(
    seed: int, index: int, layer: str, shape: tuple[int, ...], *, batch_norm: str
) -> Params:
    """Draw a convolution's weight with ``glorot_uniform``; set batch norm to identity or bias to 0.

    Args:
        seed: the run's seed.
        index: index of the weight in the model.
        layer: prefix of the tensors' names, as in "<layer>.conv.weight".
        shape: [c_out, c_in, ...].
        batch_norm: one of ``batch_norm.MODES``.
    """
    weight = glorot_uniform(seed, index, shape)
    params = {f"{layer}.conv.weight": weight}
    # batch norm would cancel a bias, so a convolution has one only without batch norm
    if batch_norm == "none":
        params[f"{layer}.conv.bias"] = weight.new_zeros(shape[0])
    else:
        params[f"{layer}.norm.scale"] = weight.new_ones(shape[0])
        params[f"{layer}.norm.shift"] = weight.new_zeros(shape[0])
    return params


def _uniform(seed: int, index: int, shape: tuple[int, ...], bound: float) -> Tensor:
    generator = torch.Generator().manual_seed(CounterRng(seed, "init", index=index).torch_seed())
    unit = torch.rand(shape, generator=generator, dtype=torch.float32)
    return (2.0 * unit - 1.0) * bound
