"""Matching networks."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.metric import MetricLearner
from metafleet.models.attention import softmax_mean
from metafleet.models.init import AFTER_MODEL
from metafleet.models.recurrent import init_lstm, lstm_cell, unroll_lstm
from metafleet.options import require, require_steps
from metafleet.params import Params

_SUPPORT = "support"
_TARGETS = "targets"


@dataclass(frozen=True, slots=True)
class MatchingNetOptions:
    """Options of ``MatchingNet``.

    Attributes:
        scale: factor for the cosines in the softmax, > 0. The paper uses 1. With the factor 1,
            attention weights of one episode differ by a factor of at most e^2, so learning is slow.
        context_steps: attention steps of the full context embedding, >= 0. 0 disables full context
            embedding.
    """

    scale: float = 1.0
    context_steps: int = 0

    def __post_init__(self) -> None:
        require(self.scale > 0, "scale", self.scale, "more than 0")
        require_steps("context_steps", self.context_steps, least=0)


class MatchingNet(MetricLearner[MatchingNetOptions]):
    """Learn an embedding in which a query has the class of the most similar support examples.

    P(y | x, S) = sum_i a(x, x_i) [y_i = y], a = softmax_i(scale * cos(f(x), g(x_i))). The logits
    are log P. With full context embeddings, g reads the support set with a bidirectional LSTM, and
    f is an LSTM that attends to the support set ``context_steps`` times.

    Source: Vinyals et al. 2016, arXiv:1606.04080, eq. 1 and section 2.1.1; full context embeddings
    in section 2.1.2, eq. 2 to 6 of the appendix.
    """

    name: ClassVar[str] = "matchingnet"
    Options: ClassVar[type] = MatchingNetOptions

    def init_comparison(self, seed: int) -> Params:
        """Draw the LSTMs of the full context embedding."""
        if self.options.context_steps == 0:
            return {}
        d, first = math.prod(self.model.feature_shape), AFTER_MODEL
        return (
            init_lstm(seed, first, "context.forward", n_inputs=d, n_units=d)
            | init_lstm(seed, first + 3, "context.backward", n_inputs=d, n_units=d)
            # its hidden state is joined with the value that was read
            | init_lstm(seed, first + 6, "context.read", n_inputs=d, n_units=d, n_hidden=2 * d)
        )

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return g(x_i), [m, d], and the classes, [m]."""
        if self.options.context_steps > 0:
            support = _read_support(params, support)
        return {_SUPPORT: support, _TARGETS: targets}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return log P(y | x, S), [n, n_way]."""
        support, targets = fitted[_SUPPORT], fitted[_TARGETS]
        if self.options.context_steps > 0:
            query = self._read_query(params, support, query)
        cosines = F.normalize(query, dim=1) @ F.normalize(support, dim=1).T
        log_weights = F.log_softmax(self.options.scale * cosines, dim=1)
        classes = torch.arange(context.n_way, device=targets.device)
        is_of_class = targets[None, :] == classes[:, None]
        return torch.logsumexp(log_weights[:, None, :].masked_fill(~is_of_class, -math.inf), dim=2)

    def _read_query(self, params: Params, support: Tensor, query: Tensor) -> Tensor:
        """Let each query attend to the support set ``context_steps`` times."""
        hidden = cell = torch.zeros_like(query)
        for _ in range(self.options.context_steps):
            read = softmax_mean(hidden @ support.T, support)
            state = (torch.cat([hidden, read], dim=1), cell)
            moved, cell = lstm_cell(params, "context.read", query, state)
            hidden = moved + query
        return hidden


def _read_support(params: Params, support: Tensor) -> Tensor:
    """Embed each support example in the context of the others, in the given order."""
    sequence = support[:, None, :]
    there = unroll_lstm(params, "context.forward", sequence)
    back = unroll_lstm(params, "context.backward", sequence, is_reversed=True)
    return support + (there + back)[:, 0]
