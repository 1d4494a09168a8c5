import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, vmap

from metafleet.models.attention import attend, join_heads, split_heads
from metafleet.models.recurrent import gru_cell, init_gru, init_lstm, lstm_cell, unroll_lstm

N_INPUTS, N_UNITS = 3, 4


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lstm_params() -> dict[str, torch.Tensor]:
    found = init_lstm(5, 0, "cell", n_inputs=N_INPUTS, n_units=N_UNITS)
    return {name: value.double() for name, value in found.items()}


def gru_params() -> dict[str, torch.Tensor]:
    found = init_gru(5, 0, "cell", n_inputs=N_INPUTS, n_units=N_UNITS)
    return {name: value.double() for name, value in found.items()}


def test_the_lstm_is_torchs_with_a_forget_bias_of_one() -> None:
    params, xs = lstm_params(), drawn(6, 2, N_INPUTS)
    bias = params["cell.bias"].clone()
    bias[N_UNITS : 2 * N_UNITS] += 1.0
    theirs = torch.nn.LSTM(N_INPUTS, N_UNITS, dtype=torch.float64)
    weights = {
        "weight_ih_l0": params["cell.input"].T,
        "weight_hh_l0": params["cell.hidden"].T,
        "bias_ih_l0": bias,
        "bias_hh_l0": torch.zeros_like(bias),
    }

    expected, _ = functional_call(theirs, weights, (xs,))

    torch.testing.assert_close(unroll_lstm(params, "cell", xs), expected)
    back, _ = functional_call(theirs, weights, (xs.flip(0),))
    torch.testing.assert_close(unroll_lstm(params, "cell", xs, is_reversed=True), back.flip(0))


def test_the_gru_is_torchs() -> None:
    params, x, hidden = gru_params(), drawn(2, N_INPUTS), drawn(2, N_UNITS, seed=1)
    theirs = torch.nn.GRUCell(N_INPUTS, N_UNITS, dtype=torch.float64)
    weights = {
        "weight_ih": params["cell.input"].T,
        "weight_hh": params["cell.hidden"].T,
        "bias_ih": params["cell.bias"],
        "bias_hh": torch.zeros_like(params["cell.bias"]),
    }

    expected = functional_call(theirs, weights, (x, hidden))

    torch.testing.assert_close(gru_cell(params, "cell", x, hidden), expected)


def lstm_twice(x: torch.Tensor, w: torch.Tensor, u: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    params = {"cell.input": w, "cell.hidden": u, "cell.bias": b}
    return unroll_lstm(params, "cell", torch.stack([x, x.flip(0)])).square().sum()


def gru_twice(x: torch.Tensor, w: torch.Tensor, u: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    params = {"cell.input": w, "cell.hidden": u, "cell.bias": b}
    return (
        gru_cell(params, "cell", x, gru_cell(params, "cell", x, drawn(2, N_UNITS))).square().sum()
    )


@pytest.mark.parametrize(
    ("function", "params"), [(lstm_twice, lstm_params), (gru_twice, gru_params)]
)
def test_cells_can_be_differentiated_twice(function, params) -> None:
    arguments = (drawn(2, N_INPUTS), *params().values())
    for value in arguments:
        value.requires_grad_()

    assert gradcheck(function, arguments)
    assert gradgradcheck(function, arguments)


def test_a_cell_can_be_mapped() -> None:
    params, x = lstm_params(), drawn(3, 2, N_INPUTS)
    state = (drawn(3, 2, N_UNITS, seed=1), drawn(3, 2, N_UNITS, seed=2))

    mapped, _ = vmap(lambda own, h, c: lstm_cell(params, "cell", own, (h, c)))(x, *state)

    single = [lstm_cell(params, "cell", x[i], (state[0][i], state[1][i]))[0] for i in range(3)]
    torch.testing.assert_close(mapped, torch.stack(single))


def test_attention_is_a_weighted_mean_and_can_be_differentiated_twice() -> None:
    q, k, v = drawn(2, 6), drawn(3, 6, seed=1), drawn(3, 4, seed=2)

    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)

    torch.testing.assert_close(attend(q, k, v), expected)
    first = torch.tensor([[True, False, False], [True, True, False]])
    masked = attend(q, k, v, mask=first)
    torch.testing.assert_close(masked[0], v[0])
    torch.testing.assert_close(masked[1], attend(q, k[:2], v[:2])[1])
    for tensor in (q, k, v):
        tensor.requires_grad_()
    assert gradgradcheck(lambda *given: attend(*given, mask=first), (q, k, v))


def test_heads_attend_apart() -> None:
    q, k, v = drawn(2, 6), drawn(3, 6, seed=1), drawn(3, 6, seed=2)

    joined = join_heads(attend(*(split_heads(x, 2) for x in (q, k, v))))

    each = [attend(q[:, own], k[:, own], v[:, own]) for own in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(joined, torch.cat(each, dim=1))
