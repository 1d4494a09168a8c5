"""The part of a graph in ONNX of an encoder of pictures."""

import torch
from torch import Tensor, nn

from metafleet.encoders.base import Array
from metafleet.encoders.graph_part import GraphPart, PartInput
from metafleet.encoders.pixels import PixelRule


class _Normalising(nn.Module):
    """Normalises pictures before a network."""

    def __init__(self, rule: PixelRule, network: nn.Module) -> None:
        super().__init__()
        self._rule, self.network = rule, network

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures [n, 3, side, side] in [0, 1] to features [n, features]."""
        features: Tensor = self.network(self._rule.scaled(pictures))
        return features.flatten(1).float()


def picture_part(rule: PixelRule, network: nn.Module) -> GraphPart:
    """Return an encoder of pictures as a part of a graph.

    Args:
        rule: how pictures are preprocessed. Resizing is not part of the graph.
        network: maps normalised pictures to features.
    """
    takes = {
        "values": "red, green and blue, from 0 for none to 1 for full",
        "shape": ["n", *rule.shape],
        "dtype": "float32",
        **{name: value for name, value in rule.reading().items() if name != "channels"},
    }
    inputs = (PartInput("", rule.shape, takes),)
    return GraphPart(inputs, _Normalising(rule, network).eval(), lambda items: (as_shares(items),))


def as_shares(items: Array) -> Tensor:
    """Convert uint8 pictures to float32 in [0, 1]."""
    return torch.from_numpy(items).float() / 255.0
