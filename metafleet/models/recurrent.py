"""Recurrent cells from matrix products alone.

cuDNN's and oneDNN's fused cells have no double backward, nor a rule for ``vmap``; meta-learning
needs both. Gates are computed in one product.
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
        index: position of the first of three tensors in their model.
        name: what their names begin with.
        n_inputs: features of an input.
        n_units: features of the hidden and of the cell state.
        n_hidden: features of the hidden state with what is joined to it, such as what was read
            from a memory; None for ``n_units``.
    """
    shape = (n_inputs, n_hidden or n_units, n_units)
    return _init_gates(seed, index, name, n_gates=4, shape=shape)


def lstm_cell(
    params: Mapping[str, Tensor], name: str, x: Tensor, state: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the next (hidden, cell) state, [n, n_units] each.

    i, f, g, o = x W_x + h W_h + b; c' = sigmoid(f + 1) c + sigmoid(i) tanh(g);
    h' = sigmoid(o) tanh(c'). The 1 keeps what a young cell holds.

    Args:
        params: what ``init_lstm`` drew, among others.
        name: what their names begin with.
        x: [n, n_inputs].
        state: hidden state [n, n_hidden] and cell state [n, n_units] before.

    Source: Hochreiter and Schmidhuber 1997; the forget gate's bias in Jozefowicz et al. 2015.
    """
    hidden, cell = state
    gates = x @ params[f"{name}.input"] + hidden @ params[f"{name}.hidden"] + params[f"{name}.bias"]
    take, keep, new, out = gates.chunk(4, dim=-1)
    cell = torch.sigmoid(keep + 1.0) * cell + torch.sigmoid(take) * torch.tanh(new)
    return torch.sigmoid(out) * torch.tanh(cell), cell


def init_gru(seed: int, index: int, name: str, *, n_inputs: int, n_units: int) -> Params:
    """Draw the parameters of ``gru_cell``; arguments as of ``init_lstm``."""
    return _init_gates(seed, index, name, n_gates=3, shape=(n_inputs, n_units, n_units))


def gru_cell(params: Mapping[str, Tensor], name: str, x: Tensor, hidden: Tensor) -> Tensor:
    """Return the next hidden state, [n, n_units].

    r, z, n = x W_x + b; with h W_h added, that of n times sigmoid(r);
    h' = (1 - z) tanh(n) + z h, z = sigmoid(z).

    Source: Cho et al. 2014, arXiv:1406.1078; the reset gate after the product, as in cuDNN.
    """
    given = (x @ params[f"{name}.input"] + params[f"{name}.bias"]).chunk(3, dim=-1)
    held = (hidden @ params[f"{name}.hidden"]).chunk(3, dim=-1)
    reset, update = torch.sigmoid(given[0] + held[0]), torch.sigmoid(given[1] + held[1])
    return (1.0 - update) * torch.tanh(given[2] + reset * held[2]) + update * hidden


def unroll_lstm(
    params: Mapping[str, Tensor], name: str, xs: Tensor, *, is_reversed: bool = False
) -> Tensor:
    """Run an LSTM from a state of zeros over a sequence; return all hidden states.

    Args:
        params: what ``init_lstm`` drew, among others.
        name: what their names begin with.
        xs: [length, n, n_inputs].
        is_reversed: read from the end; hidden states stay at their input's place.

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
