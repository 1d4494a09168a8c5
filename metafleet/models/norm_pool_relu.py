"""Batch norm, 2x2 max pooling and ReLU in one step, with two derivatives in closed form.

Autograd's second derivative of batch norm makes about thirty passes over full-size tensors. These
passes took more than half of the time of second-order MAML on a CPU. The closed form needs one pass
over the activations for each sum, and one pass for the result. All other operations are on tensors
of the pooled size.

Let z [N, c] be the activations of the channels c (N = n * h * w), r = 1 / sqrt(variance + eps),
xhat = (z - mean) * r, and S the matrix that selects the positions that pooling keeps. The forward
pass is a = relu(scale * S xhat + shift). Pooling comes before the affine map. The order can be
exchanged, because S takes the sign of the scale into account. Let g be the gradient of the loss
with respect to a, set to 0 where a = 0, and let A = scale * r. The gradients are (Ioffe and Szegedy
2015, arXiv:1502.03167, section 3)

    d_shift = sum g,   d_scale = sum g S xhat,
    d_z = A * (S^T g - d_shift / N - xhat * d_scale / N).

For the second derivative, let H, h1, h2 be the cotangents of d_z, d_scale, d_shift, and
q0 = mean H, q1 = mean(H xhat), e = h1 - A q1. The gradients of
<H, d_z> + <h1, d_scale> + <h2, d_shift> are

    for g:      A * (S H - q0) + e * S xhat + h2,
    for scale:  r * Q,   Q = sum g S H - d_shift * q0 - d_scale * q1,
    for z:      batch norm's backward of u = S^T (g e) - A d_scale H / N, and -r xhat A Q r / N.

In float32, ATen sums rows by cascade summation. Such sums are ten to a thousand times more accurate
than the sums in ATen's batch norm of channels-last images.
"""

from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.models.autograd import apply
from metafleet.models.batch_norm import EPSILON, BatchStatistics, Normalise
from metafleet.models.tracing import is_being_compiled


def can_fuse(norm: Normalise, x: Tensor) -> TypeGuard[BatchStatistics]:
    """Return whether ``fused_norm_pool_relu`` applies: own statistics, floats, on a CPU."""
    is_float = x.dtype in (torch.float32, torch.float64)
    # a compiler fuses the plain operators itself
    is_eager_cpu = x.device.type == "cpu" and not is_being_compiled()
    return isinstance(norm, BatchStatistics) and is_float and is_eager_cpu


def fused_norm_pool_relu(
    norm: BatchStatistics, layer: str, x: Tensor, scale: Tensor, shift: Tensor
) -> Tensor:
    """Normalise by the batch's own statistics, pool by 2x2 and rectify.

    Args:
        norm: batch norm that records the statistics.
        layer: name of the layer, for ``norm``.
        x: [n, c, h, w], h and w >= 2; pooling drops an odd last row or column.
        scale: [c].
        shift: [c].

    Returns:
        [n, c, h // 2, w // 2]. The result can be differentiated twice, also under ``torch.func``.

    Raises:
        DataError: there is only one value for each channel.
        ConfigError: a third derivative is taken.
    """
    norm.check(layer, x)
    outputs: Tensor
    outputs, _, _, mean, _, variance = apply(_Forward, x, scale, shift)
    count = x.numel() // x.shape[1]
    norm.note(layer, mean, variance * (count / (count - 1)))
    return outputs


def _rows(x: Tensor) -> Tensor:
    """View [n, c, h, w] as [n * h * w, c]; copies unless the layout is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _images(rows: Tensor, like: Tensor, height: int, width: int) -> Tensor:
    """View [n * h * w, c] as [n, c, h, w]."""
    return rows.reshape(like.shape[0], height, width, like.shape[1]).permute(0, 3, 1, 2)


class _Forward(torch.autograd.Function):
    """Compute relu(pool(batch norm)) from (x, scale, shift).

    The result is the first output. The other outputs are tensors that ``_Backward`` needs. They are
    functions of x and scale. ``_Backward`` takes this into account: the gradient that it returns
    contains the derivatives of the other outputs.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
        n, channels, height, width = x.shape
        rows = _rows(x)
        mean = rows.sum(0) / len(rows)
        # a negative scale turns the smallest value into the largest; multiplying by -1 is exact
        sign = torch.where(scale < 0, -1.0, 1.0).to(x.dtype)
        centred = torch.addcmul(-mean * sign, rows, sign)
        pooled, chosen = F.max_pool2d(
            _images(centred, x, height, width), 2, return_indices=True
        )  # [n, c, h // 2, w // 2], chosen in [0, h * w)
        variance = centred.mul_(centred).sum(0) / len(rows)
        r = torch.rsqrt(variance + EPSILON)
        peaks = _rows(pooled) * (r * sign)  # xhat at the selected positions
        outputs = torch.addcmul(shift, peaks, scale).clamp_min_(0.0)
        first = torch.arange(n, device=x.device) * (height * width * channels)
        first = first.view(n, 1, 1, 1) + torch.arange(channels, device=x.device)
        places = torch.add(first, chosen.permute(0, 2, 3, 1), alpha=channels).reshape(-1)
        return _images(outputs, x, height // 2, width // 2), peaks, places, mean, r, variance

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, scale, _ = inputs
        outputs, peaks, places, mean, r, variance = output
        ctx.mark_non_differentiable(peaks, places, mean, r, variance)
        ctx.set_materialize_grads(False)  # no full-size zeros for the five outputs above
        ctx.save_for_backward(x, scale, outputs, peaks, places, mean, r)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:  # the second derivative also reaches this through saved tensors
            return None, None, None
        d_x, d_scale, d_shift, _ = apply(_Backward, grad, *ctx.saved_tensors)
        return d_x, d_scale, d_shift


class _Backward(torch.autograd.Function):
    """The gradients of ``_Forward``; its backward pass gives the second derivatives."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad: Tensor, *saved: Tensor) -> tuple[Tensor, ...]:
        x, scale, outputs, peaks, places, mean, r = saved
        g = _where_positive(_rows(grad), outputs)
        rows = _rows(x)
        d_shift = g.sum(0)
        d_scale = (g * peaks).sum(0)
        a = scale * r
        slope = -a * r * d_scale / len(rows)
        d_x = torch.addcmul(-a * d_shift / len(rows) - slope * mean, rows, slope)
        d_x.view(-1).scatter_add_(0, places, (g * a).view(-1))
        return _images(d_x, x, *x.shape[2:]), d_scale, d_shift, g

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, d_scale, d_shift, g = output
        ctx.mark_non_differentiable(g)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[1:], d_scale, d_shift, g)

    @staticmethod
    def backward(
        ctx: Any, h_x: Tensor | None, h_scale: Tensor | None, h_shift: Tensor | None, _: None
    ) -> tuple[Tensor | None, ...]:
        x, scale = ctx.saved_tensors[:2]
        h_x = torch.zeros_like(x) if h_x is None else h_x
        h_scale = torch.zeros_like(scale) if h_scale is None else h_scale
        h_shift = torch.zeros_like(scale) if h_shift is None else h_shift
        grads = apply(_SecondBackward, h_x, h_scale, h_shift, *ctx.saved_tensors)
        return (*grads, None, None, None, None, None)


class _SecondBackward(torch.autograd.Function):
    """The gradients of ``_Backward`` with respect to its arguments gradient, x and scale.

    This function cannot be differentiated. It is a separate function because
    ``once_differentiable`` would silently omit some terms of a third derivative and keep other
    terms.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        h_x: Tensor, h_scale: Tensor, h_shift: Tensor, *saved: Tensor
    ) -> tuple[Tensor, ...]:
        x, scale, outputs, peaks, places, mean, r, d_scale, d_shift, g = saved
        h, rows = _rows(h_x), _rows(x)
        n = len(rows)
        a = scale * r
        q0 = h.sum(0) / n
        q1 = r * ((h * rows).sum(0) / n - mean * q0)
        e = h_scale - a * q1
        h_peaks = h.reshape(-1).index_select(0, places).view(peaks.shape)
        d_g = torch.addcmul(torch.addcmul(h_shift - a * q0, h_peaks, a), peaks, e)
        q = (g * h_peaks).sum(0) - d_shift * q0 - d_scale * q1
        u0 = (e * d_shift - a * d_scale * q0) / n
        u1 = (e * d_scale - a * d_scale * q1) / n
        slope = -r * r * (u1 + a * q / n)
        d_x = torch.addcmul(-r * u0 - slope * mean, rows, slope)
        d_x = torch.addcmul(d_x, h, -r * a * d_scale / n)
        d_x.view(-1).scatter_add_(0, places, (g * (r * e)).view(-1))
        d_grad = _images(_where_positive(d_g, outputs), x, *outputs.shape[2:])
        return d_grad, _images(d_x, x, *x.shape[2:]), r * q

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        raise ConfigError(
            "a third derivative was asked of a batch norm that has two; "
            "take plain batch norm, pooling and ReLU where more are needed"
        )


def _where_positive(values: Tensor, outputs: Tensor) -> Tensor:
    """Return ``values`` [m, c] where ``outputs`` [n, c, h, w] are positive, else 0."""
    result: Tensor = torch.ops.aten.threshold_backward(values, _rows(outputs), 0)
    return result
