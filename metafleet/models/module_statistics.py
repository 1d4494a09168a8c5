"""Convert a module's running batch norm statistics to ``MetaState`` buffers and back.

Buffers are named "<layer>.mean" and "<layer>.variance". If a layer's epsilon differs from
Metafleet's epsilon, the layer's inputs are multiplied by a factor c (see ``rescaling``). If the
inputs have mean m and variance v, the buffers then hold c m and c^2 v.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from metafleet.models.batch_norm import EPSILON, average_buffers
from metafleet.params import Params


def rescaling(layer: _BatchNorm) -> float:
    """Return the factor c for a layer's inputs that compensates for the layer's own epsilon.

    Let e be Metafleet's epsilon, e_l the layer's epsilon, and c = sqrt(e / e_l). Normalising c x
    with e then equals normalising x with e_l: (c x - c m) / sqrt(c^2 v + e) = (x - m) / sqrt(v + e
    / c^2), and e / c^2 = e_l.
    """
    return 1.0 if layer.eps == EPSILON else float((EPSILON / layer.eps) ** 0.5)


def read_statistics(norms: Mapping[str, _BatchNorm]) -> Params:
    """Return copies of the running statistics of the layers that keep them, as buffers."""
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

    The weight of the new statistics is the layer's momentum. If the momentum is None, the weight is
    1 / n in the n-th update. One outer step counts as one update.

    Args:
        norms: batch norm layers by name. Layers without running statistics are skipped.
        sums: ``MetaGradient.buffers`` summed over the step's episodes.
        n_episodes: number of episodes in ``sums``.
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
