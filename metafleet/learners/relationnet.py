"""Relation networks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.metric import MetricLearner
from metafleet.learners.prototypes import one_hot
from metafleet.models.batch_norm import Normalise, initial_buffers
from metafleet.models.conv_block import conv_block
from metafleet.models.init import AFTER_MODEL, fan_in_uniform, glorot_uniform
from metafleet.options import require
from metafleet.params import MetaState, Params

_CLASSES = "classes"
_BLOCKS = ("relation.block0", "relation.block1")


@dataclass(frozen=True, slots=True)
class RelationNetOptions:
    """Options of ``RelationNet``.

    Attributes:
        hidden: units of the relation module's hidden linear layer, >= 1.
    """

    hidden: int = 8

    def __post_init__(self) -> None:
        require(self.hidden >= 1, "hidden", self.hidden, "1 or more")


class RelationNet(MetricLearner[RelationNetOptions]):
    """Learn an embedding f and a network g that compares a query x_j with a class i.

    The relation is r_ij = g([s_i, f(x_j)]), where s_i is the sum of f over the support examples of
    class i. If f gives feature maps, g starts with two blocks of convolution, batch norm, ReLU and
    pooling. If f gives feature vectors, g has no such blocks. Two linear layers and a sigmoid
    follow. Training minimises the mean of (r_ij - [y_j = i])^2. The learner's outputs are the
    values before the sigmoid.

    Source: Sung et al. 2018, arXiv:1711.06025, eq. 1 and 2, section 3.3 and figure 2.
    """

    name: ClassVar[str] = "relationnet"
    Options: ClassVar[type] = RelationNetOptions

    @property
    def _maps(self) -> tuple[int, int, int] | None:
        """Channels, height and width of the feature maps; None for vectors."""
        shape = self.model.feature_shape
        return (shape[0], shape[1], shape[2]) if len(shape) == 3 else None

    def init_comparison(self, seed: int) -> Params:
        """Draw the parameters of the relation module."""
        params, n_features = self._init_blocks(seed)
        n_hidden = self.options.hidden
        for i, (name, n_in, n_out) in enumerate(
            (("relation.hidden", n_features, n_hidden), ("relation.score", n_hidden, 1))
        ):
            index = AFTER_MODEL + 2 + 2 * i
            params[f"{name}.weight"] = fan_in_uniform(seed, index, (n_out, n_in), fan_in=n_in)
            params[f"{name}.bias"] = fan_in_uniform(seed, index + 1, (n_out,), fan_in=n_in)
        return params

    def init_state(self, seed: int) -> MetaState:
        """Draw all parameters; the relation module has the model's batch norm mode."""
        state = super().init_state(seed)
        if self._maps is None:
            return state
        layers = dict.fromkeys(_BLOCKS, self._maps[0])
        return MetaState(state.params, state.buffers | initial_buffers(self.batch_norm, layers))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of the relation scores."""
        classes = one_hot(targets, outputs.shape[1], outputs)
        return F.mse_loss(torch.sigmoid(outputs), classes)

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the sum of each class's embeddings, [n_way, d]."""
        classes = one_hot(targets, context.n_way, support).T @ support
        if context.norm.needs_support_pass:
            self._relate(params, classes, support, context.norm.capture)
        return {_CLASSES: classes}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Compute the relation score of every query with every class."""
        return self._relate(params, fitted[_CLASSES], query, context.norm.query)

    def _relate(
        self, params: Mapping[str, Tensor], classes: Tensor, queries: Tensor, norm: Normalise
    ) -> Tensor:
        """Return the scores [n, n_way] of ``queries`` [n, d] for ``classes`` [n_way, d]."""
        n, n_way = queries.shape[0], classes.shape[0]
        shape = self.model.feature_shape
        pairs = torch.cat(
            [
                classes.view(1, n_way, *shape).expand(n, n_way, *shape),
                queries.view(n, 1, *shape).expand(n, n_way, *shape),
            ],
            dim=2,
        ).flatten(0, 1)
        x = self._blocks(params, pairs, norm) if self._maps is not None else pairs
        for i, name in enumerate(("relation.hidden", "relation.score")):
            x = F.relu(x) if i > 0 else x.flatten(1)
            x = F.linear(x, params[f"{name}.weight"], params[f"{name}.bias"])
        return x.view(n, n_way)

    def _blocks(self, params: Mapping[str, Tensor], x: Tensor, norm: Normalise) -> Tensor:
        for block in _BLOCKS:
            x = conv_block(params, block, x, norm, is_pooled=min(x.shape[-2:]) > 1)
        return x

    def _init_blocks(self, seed: int) -> tuple[Params, int]:
        """Draw the blocks' parameters; also return the number of features they output."""
        if self._maps is None:
            return {}, 2 * math.prod(self.model.feature_shape)
        params: Params = {}
        channels, *sizes = self._maps
        for i, block in enumerate(_BLOCKS):
            n_in = 2 * channels if i == 0 else channels
            weight = glorot_uniform(seed, AFTER_MODEL + i, (channels, n_in, 3, 3))
            params[f"{block}.conv.weight"] = weight
            if self.batch_norm == "none":
                params[f"{block}.conv.bias"] = weight.new_zeros(channels)
            else:
                params[f"{block}.norm.scale"] = weight.new_ones(channels)
                params[f"{block}.norm.shift"] = weight.new_zeros(channels)
            sizes = [size // 2 for size in sizes] if min(sizes) > 1 else sizes
        return params, channels * math.prod(sizes)
