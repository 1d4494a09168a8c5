"""The block of few-shot learning's convolutional networks."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.convolution import convolve
from metafleet.models.init import init_conv
from metafleet.models.norm_pool_relu import can_fuse, fused_norm_pool_relu
from metafleet.params import Params


def conv_block(
    params: Mapping[str, Tensor],
    layer: str,
    x: Tensor,
    norm: Normalise,
    *,
    is_pooled: bool = True,
    modulate: Modulate | None = None,
) -> Tensor:
    """Convolve with 3x3 filters, normalise, pool by 2x2 and rectify.

    Args:
        params: "<layer>.conv.weight" [c_out, c_in, 3, 3]. With batch norm, also
            "<layer>.norm.scale" [c_out] and "<layer>.norm.shift" [c_out]. Without batch norm, also
            "<layer>.conv.bias" [c_out].
        layer: name of the block.
        x: [n, c_in, h, w].
        norm: the batch norm. If the batch norm uses the batch's own statistics, the block computes
            batch norm, pooling and ReLU in one fused step.
        is_pooled: whether to halve height and width, rounding down.
        modulate: a function that changes the normalised activations; None for no change. If a
            function is given, the steps are not fused.

    Returns:
        [n, c_out, h // 2, w // 2] with pooling, or [n, c_out, h, w] without.
    """
    x = convolve(x, params[f"{layer}.conv.weight"], 1)
    if f"{layer}.conv.bias" in params:
        x = x + params[f"{layer}.conv.bias"].view(-1, 1, 1)
    else:
        scale, shift = params[f"{layer}.norm.scale"], params[f"{layer}.norm.shift"]
        if is_pooled and modulate is None and can_fuse(norm, x):
            return fused_norm_pool_relu(norm, layer, x, scale, shift)
        x = norm(layer, x, scale, shift)
    if modulate is not None:
        x = modulate(layer, x)
    # equal to pooling after ReLU, because ReLU is monotone, with a quarter of the ReLU's work
    return F.relu(F.max_pool2d(x, 2) if is_pooled else x)


def init_blocks(
    seed: int,
    layers: Mapping[str, int],
    *,
    n_in: int,
    batch_norm: str,
    window: tuple[int, ...] = (3, 3),
    first: int = 0,
) -> Params:
    """Draw the parameters of consecutive blocks; see ``init_conv``.

    Args:
        seed: the run's seed.
        layers: name of a block -> its number of filters, in order.
        n_in: input channels of the first block.
        batch_norm: one of ``batch_norm.MODES``.
        window: size of the filters along each axis.
        first: index of the first block's weight in the model.
    """
    params: Params = {}
    for index, (layer, channels) in enumerate(layers.items(), start=first):
        shape = (channels, n_in, *window)
        params |= init_conv(seed, index, layer, shape, batch_norm=batch_norm)
        n_in = channels
    return params
