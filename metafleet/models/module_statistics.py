"""The running statistics of a module's batch norm layers, as buffers of a ``MetaState`` and back.

Buffers are named "<layer>.mean" and "<layer>.variance". A layer with another epsilon than ours is
fed inputs times c (``rescaling``), so its buffers are those of what goes in: c m and c^2 v.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from metafleet.models.batch_norm import EPSILON, average_buffers
from metafleet.params import Params


def rescaling(layer: _BatchNorm) -> float:
    """Return c such that normalising c x with our epsilon is normalising x with the layer's.

    (c x - c m) / sqrt(c^2 v + e) = (x - m) / sqrt(v + e / c^2), and e / c^2 is the layer's for
    c = sqrt(e / the layer's).
    """
    return 1.0 if layer.eps == EPSILON else float((EPSILON / layer.eps) ** 0.5)


def read_statistics(norms: Mapping[str, _BatchNorm]) -> Params:
    """Return the buffers of the layers that keep running statistics, copied."""
    found: Params = {}
    for name, layer in norms.items():
        if layer.running_mean is not None and layer.running_var is not None:
            factor = rescaling(layer)
            found[f"{name}.mean"] = factor * layer.running_mean
            found[f"{name}.variance"] = factor**2 * layer.running_var
    return found


def move_statistics(
    norms: Mapping[str, _BatchNorm], sums: Mapping[str, Tensor], *, n_episodes: int
) -> None:
    """Move the layers' own running statistics towards an outer step's mean, in place.

    The weight of the new ones is the layer's momentum, or 1 / n at the n-th time where that is
    None: one outer step counts as one batch.

    Args:
        norms: layers by name; those without running statistics are left alone.
        sums: ``MetaGradient.buffers`` summed over the step's episodes.
        n_episodes: how many episodes ``sums`` adds up.
    """
    before = read_statistics(norms)
    for name, layer in norms.items():
        own = {key: before[key] for key in (f"{name}.mean", f"{name}.variance") if key in before}
        if not own or layer.running_mean is None or layer.running_var is None:
            continue
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.add_(1)
        moved = average_buffers(own, sums, n_episodes=n_episodes, momentum=_momentum(layer))
        factor = rescaling(layer)
        with torch.no_grad():
            layer.running_mean.copy_(moved[f"{name}.mean"] / factor)
            layer.running_var.copy_(moved[f"{name}.variance"] / factor**2)


def _momentum(layer: _BatchNorm) -> float:
    if layer.momentum is not None:
        return layer.momentum
    seen = layer.num_batches_tracked
    return 1.0 if seen is None else 1.0 / int(seen)
