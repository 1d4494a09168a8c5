"""Feature-wise linear modulation (FiLM): a condition vector scales and shifts the channels.

Source: Perez et al. 2018, arXiv:1709.07871, eq. 1.
"""

from collections.abc import Mapping

from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.init import fan_in_uniform
from metafleet.params import Params


def init_film(
    seed: int, index: int, name: str, *, n_inputs: int, layers: Mapping[str, int]
) -> Params:
    """Draw linear maps from the condition to the scale and shift of each layer.

    Args:
        seed: the run's seed.
        index: index of the first tensor in the model. Each layer has 2 tensors.
        name: prefix of the tensors' names.
        n_inputs: length of the condition.
        layers: layer -> number of channels, as ``Model.layers``.
    """
    params: Params = {}
    for i, (layer, channels) in enumerate(layers.items()):
        for j, part in enumerate(("scale", "shift")):
            shape = (channels, n_inputs)
            params[f"{name}.{layer}.{part}"] = fan_in_uniform(
                seed, index + 2 * i + j, shape, fan_in=n_inputs
            )
    return params


def film(params: Mapping[str, Tensor], name: str, condition: Tensor) -> Modulate:
    """Return a function that maps a layer's activations x [n, c, ...] to (1 + gamma) x + beta.

    Here gamma = W_scale z and beta = W_shift z. If z = 0, the activations are unchanged.

    Args:
        params: parameters, including those from ``init_film``.
        name: prefix of their names.
        condition: z [n_inputs].
    """

    def modulate(layer: str, x: Tensor) -> Tensor:
        per_channel = (1, -1) + (1,) * (x.dim() - 2)
        gamma = (params[f"{name}.{layer}.scale"] @ condition).view(per_channel)
        beta = (params[f"{name}.{layer}.shift"] @ condition).view(per_channel)
        return (1.0 + gamma) * x + beta

    return modulate
