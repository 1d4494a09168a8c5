"""Stride-1 convolution whose derivatives of every order are convolutions that somebody asked for.

Convolution y = x * w, its gradient for the input and its gradient for the weights are bilinear, and
each one's gradients are the other two. Autograd's own second derivative of a convolution also
computes what nobody uses (the gradient for the images themselves, which are one channel and slow)
and takes gradients for weights by a detour of half the speed.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from metafleet.models.autograd import apply


def convolve(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Cross-correlate images with filters.

    Args:
        x: [n, c_in, h, w].
        weight: [c_out, c_in, k, k].
        padding: zeros around the images, >= 0.

    Returns:
        [n, c_out, h + 2 * padding - k + 1, ...]; differentiable as often as one likes, and under
        ``torch.func`` as well.
    """
    dtype, kind = x.dtype, x.device.type
    if torch.is_autocast_enabled(kind):  # here, so that the derivatives' arguments are rounded too
        reduced = torch.get_autocast_dtype(kind)
        x, weight = x.to(reduced), weight.to(reduced)
    result: Tensor = apply(_Convolution, x, weight, padding)
    return result.to(dtype)


class _Bilinear(torch.autograd.Function):
    """Keeps both arguments for the backward pass, for which padding is the same everywhere."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        left, right, ctx.padding = inputs
        ctx.save_for_backward(left, right)


class _Convolution(_Bilinear):
    """(x, weight) -> y."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return F.conv2d(x, weight, padding=padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, _ = ctx.needs_input_grad
        d_x = apply(_InputGradient, grad, weight, ctx.padding) if needs_x else None
        d_weight = apply(_WeightGradient, grad, x, ctx.padding) if needs_weight else None
        return d_x, d_weight, None


class _InputGradient(_Bilinear):
    """(gradient of y, weight) -> gradient of x."""

    @staticmethod
    def forward(grad: Tensor, weight: Tensor, padding: int) -> Tensor:
        return F.conv_transpose2d(grad, weight, padding=padding)

    @staticmethod
    def backward(ctx: Any, h: Tensor) -> tuple[Tensor | None, ...]:
        grad, weight = ctx.saved_tensors
        needs_grad, needs_weight, _ = ctx.needs_input_grad
        d_grad = apply(_Convolution, h, weight, ctx.padding) if needs_grad else None
        d_weight = apply(_WeightGradient, grad, h, ctx.padding) if needs_weight else None
        return d_grad, d_weight, None


class _WeightGradient(_Bilinear):
    """(gradient of y, x) -> gradient of weight."""

    @staticmethod
    def forward(grad: Tensor, x: Tensor, padding: int) -> Tensor:
        size = x.shape[2] + 2 * padding - grad.shape[2] + 1
        shape = (grad.shape[1], x.shape[1], size, size)
        result: Tensor = conv2d_weight(x, shape, grad, padding=padding)  # type: ignore[no-untyped-call]
        return result

    @staticmethod
    def backward(ctx: Any, h: Tensor) -> tuple[Tensor | None, ...]:
        grad, x = ctx.saved_tensors
        needs_grad, needs_x, _ = ctx.needs_input_grad
        d_grad = apply(_Convolution, x, h, ctx.padding) if needs_grad else None
        d_x = apply(_InputGradient, grad, h, ctx.padding) if needs_x else None
        return d_grad, d_x, None
