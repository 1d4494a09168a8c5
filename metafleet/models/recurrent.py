"""Recurrent cells made from matrix products.

The fused cells of cuDNN and oneDNN have neither a double backward nor a ``vmap`` rule, and
meta-learning needs both. In the cells of this module, one matrix product computes all gates.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from metafleet.models.init import fan_in_uniform
from metafleet.params import Params


def init_lstm(
    seed: int, index: int, name: str, *, n_inputs: int, n_units: int, n_hidden: int | None = None
) -> Params:
    """Draw the parameters of ``lstm_cell`` from U(-b, b), b = 1 / sqrt(n_units), as torch does.

    Args:
        seed: the run's seed.
        index: index of the first of three tensors in the model.
        name: prefix of the tensors' names.
        n_inputs: features of an input.
        n_units: features of the hidden state and of the cell state.
        n_hidden: length of the hidden state plus the values that are appended to it, such as values
            read from a memory. None means that nothing is appended.
    """
    shape = (n_inputs, n_hidden or n_units, n_units)
    return _init_gates(seed, index, name, n_gates=4, shape=shape)


def lstm_cell(
    params: Mapping[str, Tensor], name: str, x: Tensor, state: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the next (hidden, cell) state, [n, n_units] each.

    Let i, f, g, o be the four parts of x W_x + h W_h + b. Then c' = sigmoid(f + 1) c + sigmoid(i)
    tanh(g) and h' = sigmoid(o) tanh(c'). Because of the 1, an untrained cell keeps most of its
    state.

    Args:
        params: parameters, including those from ``init_lstm``.
        name: prefix of their names.
        x: [n, n_inputs].
        state: previous hidden state [n, n_hidden] and cell state [n, n_units].

    Source: Hochreiter and Schmidhuber 1997; the forget gate's bias in Jozefowicz et al. 2015.
    """
    hidden, cell = state
    gates = x @ params[f"{name}.input"] + hidden @ params[f"{name}.hidden"] + params[f"{name}.bias"]
    take, keep, new, out = gates.chunk(4, dim=-1)
    cell = torch.sigmoid(keep + 1.0) * cell + torch.sigmoid(take) * torch.tanh(new)
    return torch.sigmoid(out) * torch.tanh(cell), cell


def init_gru(seed: int, index: int, name: str, *, n_inputs: int, n_units: int) -> Params:
    """Draw the parameters of ``gru_cell``; for the arguments see ``init_lstm``."""
    return _init_gates(seed, index, name, n_gates=3, shape=(n_inputs, n_units, n_units))


def gru_cell(params: Mapping[str, Tensor], name: str, x: Tensor, hidden: Tensor) -> Tensor:
    """Return the next hidden state, [n, n_units].

    Let r_x, z_x, n_x be the three parts of x W_x + b, and r_h, z_h, n_h the three parts of h W_h.
    Then r = sigmoid(r_x + r_h), z = sigmoid(z_x + z_h) and h' = (1 - z) tanh(n_x + r n_h) + z h.

    Source: Cho et al. 2014, arXiv:1406.1078. The reset gate is applied after the product with W_h,
    as in cuDNN.
    """
    given = (x @ params[f"{name}.input"] + params[f"{name}.bias"]).chunk(3, dim=-1)
    held = (hidden @ params[f"{name}.hidden"]).chunk(3, dim=-1)
    reset, update = torch.sigmoid(given[0] + held[0]), torch.sigmoid(given[1] + held[1])
    return (1.0 - update) * torch.tanh(given[2] + reset * held[2]) + update * hidden


def unroll_lstm(
    params: Mapping[str, Tensor], name: str, xs: Tensor, *, is_reversed: bool = False
) -> Tensor:
    """Run an LSTM over a sequence, starting from a zero state; return all hidden states.

    Args:
        params: parameters, including those from ``init_lstm``.
        name: prefix of their names.
        xs: [length, n, n_inputs].
        is_reversed: whether to read the sequence from its end. The result keeps the order of the
            inputs: hidden state i belongs to input i.

    Returns:
        [length, n, n_units].
    """
    hidden = xs.new_zeros(xs.shape[1], params[f"{name}.hidden"].shape[0])
    state, seen = (hidden, hidden), []
    for x in reversed(xs.unbind()) if is_reversed else xs.unbind():
        state = lstm_cell(params, name, x, state)
        seen.append(state[0])
    return torch.stack(seen[::-1] if is_reversed else seen)


def _init_gates(
    seed: int, index: int, name: str, *, n_gates: int, shape: tuple[int, int, int]
) -> Params:
    n_inputs, n_hidden, n_units = shape
    width = n_gates * n_units
    shapes = {"input": (n_inputs, width), "hidden": (n_hidden, width), "bias": (width,)}
    return {
        f"{name}.{part}": fan_in_uniform(seed, index + i, own, fan_in=n_units)
        for i, (part, own) in enumerate(shapes.items())
    }
