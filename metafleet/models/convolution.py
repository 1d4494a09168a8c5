"""Stride-1 convolution that computes derivatives of any order only if they are needed.

Three functions are bilinear: the convolution y = x * w, its gradient with respect to x, and its
gradient with respect to w. The gradients of each of these functions can be computed with the other
two functions. Autograd's second derivative of a convolution is slower for two reasons. First,
autograd also computes the gradient with respect to the images. This gradient is not used, and it is
slow because images have one channel. Second, autograd computes gradients with respect to weights at
half the speed.
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
        [n, c_out, h + 2 * padding - k + 1, ...]. The result can be differentiated any number of
        times, also under ``torch.func``.
    """
    dtype, kind = x.dtype, x.device.type
    if torch.is_autocast_enabled(kind):  # cast here to round the derivatives' arguments as well
        reduced = torch.get_autocast_dtype(kind)
        x, weight = x.to(reduced), weight.to(reduced)
    result: Tensor = apply(_Convolution, x, weight, padding)
    return result.to(dtype)


class _Bilinear(torch.autograd.Function):
    """Saves both arguments for the backward pass; all three functions use the same padding."""

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
