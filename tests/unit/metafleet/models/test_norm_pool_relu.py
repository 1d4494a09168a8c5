"""The fused block and the convolution, against the plain operators that they replace."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from metafleet.errors import ConfigError, DataError
from metafleet.models.autograd import apply
from metafleet.models.batch_norm import BatchStatistics
from metafleet.models.convolution import _Convolution, convolve
from metafleet.models.norm_pool_relu import fused_norm_pool_relu

SHAPES = [(2, 3, 4, 6), (3, 2, 5, 7), (1, 1, 2, 3), (4, 2, 3, 2)]


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def fused(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return fused_norm_pool_relu(BatchStatistics(), "block", x, scale, shift)


def plain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.max_pool2d(F.relu(F.batch_norm(x, None, None, scale, shift, True, 0.0, 1e-5)), 2)


def arguments(shape: tuple[int, ...], *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Scales of both signs, so that pooling has to look for the smallest as well."""
    channels = shape[1]
    x, scale, shift = drawn(*shape, seed=seed), drawn(channels, seed=1), drawn(channels, seed=2)
    scale[0] = -scale[0].abs() - 0.1
    return x.requires_grad_(), scale.requires_grad_(), shift.requires_grad_()


def first_and_second(function: object, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Return the value, its gradients, and the gradients of a mixture of these."""
    assert callable(function)
    value = function(*inputs)
    weights = drawn(*value.shape, seed=3).to(value.dtype).requires_grad_()
    firsts = torch.autograd.grad((value * weights).sum(), inputs, create_graph=True)
    mixture = sum((g * drawn(*g.shape, seed=4 + i)).sum() for i, g in enumerate(firsts))
    assert isinstance(mixture, Tensor)
    seconds = torch.autograd.grad(mixture, (*inputs, weights), allow_unused=True)
    return [
        value,
        *firsts,
        *(torch.zeros((), dtype=value.dtype) if s is None else s for s in seconds),
    ]


def assert_alike(
    found: list[Tensor], expected: list[Tensor], *, rtol: float = 1e-9, atol: float = 1e-11
) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(*torch.broadcast_tensors(ours, theirs), rtol=rtol, atol=atol)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_fused_block_passes_gradcheck_twice(shape: tuple[int, ...]) -> None:
    inputs = arguments(shape)
    assert torch.autograd.gradcheck(fused, inputs)
    assert torch.autograd.gradgradcheck(fused, inputs)


@pytest.mark.parametrize("shape", [*SHAPES, (5, 8, 28, 28)], ids=str)
def test_the_fused_block_equals_the_plain_operators(shape: tuple[int, ...]) -> None:
    inputs = arguments(shape, seed=7)
    assert_alike(first_and_second(fused, inputs), first_and_second(plain, inputs))


@pytest.mark.parametrize("layout", ["rows", "channels_last", "transposed", "strided"])
def test_the_layout_of_the_activations_does_not_matter(layout: str) -> None:
    x, scale, shift = arguments((3, 4, 6, 7), seed=8)
    laid_out = {
        "rows": lambda: x.detach().clone(),
        "channels_last": lambda: x.detach().contiguous(memory_format=torch.channels_last),
        "transposed": lambda: x.detach().transpose(2, 3).contiguous().transpose(2, 3),
        "strided": lambda: torch.stack([x.detach(), x.detach()], dim=4)[..., 0],
    }[layout]()
    inputs = (laid_out.requires_grad_(), scale, shift)
    assert_alike(first_and_second(fused, inputs), first_and_second(plain, (x, scale, shift)))


def test_ties_in_a_window_go_where_the_plain_operators_send_them() -> None:
    # drawn characters are mostly background: most windows hold equal values only
    x = (drawn(6, 2, 9, 8, seed=9) > 0.8).to(torch.float64)
    _, scale, shift = arguments((6, 2, 9, 8))
    inputs = (x.requires_grad_(), scale, shift)
    windows = x.unfold(2, 2, 2).unfold(3, 2, 2)
    assert bool((windows.amax((4, 5)) == windows.amin((4, 5))).float().mean() > 0.3)
    assert_alike(first_and_second(fused, inputs), first_and_second(plain, inputs))


def test_vmap_over_the_fused_block_equals_a_loop() -> None:
    inputs = [torch.stack([drawn(2, 3, 4, 5, seed=s) for s in range(3)])]
    inputs += [torch.stack([drawn(3, seed=10 + i + s) for s in range(3)]) for i in (0, 5)]

    def second_order(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        def slope(y: Tensor, s: Tensor) -> Tensor:
            firsts = grad(lambda a, b: (fused(a, b, shift) ** 2).sum(), argnums=(0, 1))(y, s)
            return (firsts[0] ** 3).sum() + (firsts[1] ** 2).sum()

        return grad(slope)(x, scale)

    found = vmap(second_order)(*inputs)
    expected = torch.stack([second_order(*(i[k] for i in inputs)) for k in range(3)])
    assert bool((expected != 0).any())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_vmap_over_cotangents_alone_works() -> None:
    x, scale, shift = arguments((2, 3, 4, 4), seed=11)
    value = fused(x, scale, shift)
    many = drawn(3, *value.shape, seed=12)
    (found,) = torch.autograd.grad(value, x, many, is_grads_batched=True, retain_graph=True)
    expected = torch.stack([torch.autograd.grad(value, x, m, retain_graph=True)[0] for m in many])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_a_third_derivative_is_refused_and_not_wrong() -> None:
    x, scale, shift = arguments((2, 3, 4, 4))
    (first,) = torch.autograd.grad((fused(x, scale, shift) ** 2).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), x, create_graph=True)
    with pytest.raises(ConfigError, match="third derivative"):
        torch.autograd.grad(second.sum(), x)


def test_float32_statistics_are_as_near_to_exact_as_the_plain_ones_or_nearer() -> None:
    x = (drawn(25, 8, 28, 28, seed=13) > 1.0).to(torch.float32) + 0.1 * drawn(
        25, 8, 28, 28, seed=14, dtype=torch.float32
    )
    x = x.contiguous(memory_format=torch.channels_last)
    scale, shift = torch.ones(8), torch.zeros(8)
    exact = plain(x.double(), scale.double(), shift.double())
    ours = float((fused(x, scale, shift) - exact).abs().max())
    assert ours <= max(2e-6, float((plain(x, scale, shift) - exact).abs().max()))


def test_noted_statistics_are_the_unbiased_ones_of_batch_norm() -> None:
    noted: dict[str, tuple[Tensor, Tensor]] = {}
    norm = BatchStatistics(lambda layer, mean, var, seen: noted.update({layer: (mean, var)}))
    x, scale, shift = arguments((3, 4, 5, 6), seed=15)
    fused_norm_pool_relu(norm, "fused", x, scale, shift)
    norm("plain", x, scale, shift)
    for found, expected in zip(noted["fused"], noted["plain"], strict=True):
        torch.testing.assert_close(found, expected)
        assert not found.requires_grad


@pytest.mark.parametrize("differentiated", [(0,), (1,), (2,), (0, 2), (1, 2)], ids=str)
def test_a_second_derivative_through_some_of_the_gradients_alone_is_right(
    differentiated: tuple[int, ...],
) -> None:
    # unused gradients reach the second derivative as None, not as zeros
    inputs = arguments((3, 2, 5, 6), seed=22)

    def second(function: object) -> list[Tensor]:
        assert callable(function)
        value = (function(*inputs) ** 3).sum()
        firsts = torch.autograd.grad(value, [inputs[i] for i in differentiated], create_graph=True)
        total = torch.stack([(first**2).sum() for first in firsts]).sum()
        return list(torch.autograd.grad(total, inputs))

    found = second(fused)
    assert all(bool((gradient != 0).any()) for gradient in found)
    assert_alike(found, second(plain))


def test_the_quick_way_into_a_function_gives_the_bits_and_gradients_of_the_usual_one() -> None:
    x, weight = drawn(2, 2, 4, 4, seed=23), drawn(3, 2, 3, 3, seed=24)
    inputs = (x.requires_grad_(), weight.requires_grad_())
    quick = first_and_second(lambda a, b: apply(_Convolution, a, b, 1), inputs)
    usual = first_and_second(lambda a, b: _Convolution.apply(a, b, 1), inputs)
    for ours, theirs in zip(quick, usual, strict=True):
        assert torch.equal(ours, theirs)


def test_one_value_for_each_channel_is_refused() -> None:
    with pytest.raises(DataError, match="batch norm of 'block' got 1 value for each channel"):
        fused(torch.randn(1, 3, 1, 1), torch.ones(3), torch.zeros(3))


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_convolution_equals_the_plain_one_to_the_second_derivative(padding: int) -> None:
    x, weight = drawn(3, 2, 5, 7, seed=16), drawn(4, 2, 3, 3, seed=17)
    inputs = (x.requires_grad_(), weight.requires_grad_())
    ours = first_and_second(lambda a, b: convolve(a, b, padding), inputs)
    assert_alike(ours, first_and_second(lambda a, b: F.conv2d(a, b, padding=padding), inputs))


def test_convolution_has_a_third_derivative_and_a_batched_one() -> None:
    x, weight = drawn(2, 2, 4, 4, seed=18), drawn(3, 2, 3, 3, seed=19)

    def third(convolution: object, a: Tensor, w: Tensor) -> Tensor:
        assert callable(convolution)
        twice = grad(lambda v: (grad(lambda u: (convolution(a, u) ** 3).sum())(v) ** 2).sum())
        return grad(lambda v: (twice(v) ** 2).sum())(w)

    expected = third(lambda a, u: F.conv2d(a, u, padding=1), x, weight)
    found = third(lambda a, u: convolve(a, u, 1), x, weight)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    many = torch.stack([weight, 2 * weight])
    batched = vmap(lambda w: third(lambda a, u: convolve(a, u, 1), x, w))(many)
    torch.testing.assert_close(batched[0], expected, rtol=1e-9, atol=1e-9)


def test_images_that_need_no_gradient_get_none() -> None:
    x, weight = drawn(2, 1, 4, 4, seed=20), drawn(3, 1, 3, 3, seed=21).requires_grad_()
    (first,) = torch.autograd.grad((convolve(x, weight, 1) ** 2).sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), weight)
    direct = torch.autograd.functional.hessian(
        lambda w: (F.conv2d(x, w, padding=1) ** 2).sum(), weight
    ).reshape(27, 27)
    torch.testing.assert_close(second.flatten(), 2.0 * direct @ first.detach().flatten())
