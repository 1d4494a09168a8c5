"""Attentive neural processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.neural_process import (
    gaussian,
    negative_log_likelihood,
    normal_divergence,
)
from metafleet.learners.pairs import PairLearner
from metafleet.models.attention import attend, join_heads, split_heads
from metafleet.models.dense import dense, init_dense
from metafleet.models.init import AFTER_MODEL
from metafleet.options import require
from metafleet.params import MetaState, Params
from metafleet.seeds import CounterRng

_LAYERS = 3
"""Linear layers of each encoder; the decoder has one more."""


@dataclass(frozen=True, slots=True)
class AnpOptions:
    """Options of ``Anp``.

    Attributes:
        hidden: units of each layer, and size of the representations; >= 1 and a multiple of
            ``heads``.
        heads: heads of the attention from queries to the support set, >= 1.
        latent: size of the latent variable, >= 0; 0 removes the latent path.
    """

    hidden: int = 128
    heads: int = 8
    latent: int = 128

    def __post_init__(self) -> None:
        require(self.heads >= 1, "heads", self.heads, "1 or more")
        is_split = self.hidden >= 1 and self.hidden % self.heads == 0
        require(is_split, "hidden", self.hidden, f"a multiple of heads={self.heads}")
        require(self.latent >= 0, "latent", self.latent, "0 or more")


class Latent(NamedTuple):
    """A normal distribution of the latent variable; mean and spread are [latent]."""

    mean: Tensor
    spread: Tensor


class Anp(PairLearner[AnpOptions]):
    """A neural process whose queries attend to the support points near them.

    Deterministic path: support point i has the representation r_i = h([x_i, y_i]). A query x reads
    r(x) = attention(query q(x), keys q(x_i), values r_i). Latent path: z ~ q(z | C) = N(mean,
    spread), where mean and spread are computed from a second encoding, averaged over the support
    set C. Let D be the union of the support set and the query set. Training minimises the negative
    evidence bound per query point. For n query points, this is KL(q(z | D) || q(z | C)) / n, plus
    the mean of -log p(y | x, r(x), z) over the query points, where z ~ q(z | D). Predictions use
    the mean of q(z | C) as z. For classification, y is one-hot.

    Source: Kim et al. 2019, arXiv:1901.05761, eq. 2 and 3, figure 2, appendix A.
    """

    name: ClassVar[str] = "anp"
    Options: ClassVar[type] = AnpOptions

    def init_state(self, seed: int) -> MetaState:
        """Draw the parameters of model, encoders, attention and decoder."""
        n_x, n_hidden, n_latent = self.n_inputs, self.options.hidden, self.options.latent
        n_pair = n_x + self.n_targets
        n_decoded = 2 * self.n_targets if self.is_regression else self.n_targets
        stacks = {
            "encoder": [n_pair] + [n_hidden] * _LAYERS,
            "place": [n_x, n_hidden, n_hidden],
            "read": [n_hidden, n_hidden],
            "decoder": [n_x + n_hidden + n_latent] + [n_hidden] * _LAYERS + [n_decoded],
        }
        if n_latent > 0:
            stacks["latent"] = [n_pair] + [n_hidden] * _LAYERS
            stacks["latent_out"] = [n_hidden, n_hidden, 2 * n_latent]
        params, index = self.model.init_params(seed), AFTER_MODEL
        for name, sizes in stacks.items():
            params |= init_dense(seed, index, name, sizes)
            index += 2 * (len(sizes) - 1)
        return MetaState(params, self.model.init_buffers())

    def draw(self, rng: CounterRng, n_support: int, n_query: int) -> Params:
        """Draw standard normal noise for the latent variable."""
        return {"noise": torch.tensor([rng.normal() for _ in range(self.options.latent)])}

    def objective(
        self, params: Params, support: ExampleSet, query: ExampleSet, context: EpisodeContext
    ) -> tuple[Tensor, Tensor]:
        """Return the negative evidence bound per query point, and the means or logits."""
        known, targets, asked = self.embed(params, support, query.inputs, context)
        pairs = torch.cat([known, targets], dim=1)
        divergence, latent = pairs.new_zeros(()), None
        if self.options.latent > 0:
            more = torch.cat([asked, self.targets_of(query, asked)], dim=1)
            prior = self._latent(params, pairs)
            posterior = self._latent(params, torch.cat([pairs, more]))
            latent = posterior.mean + posterior.spread * context.drawn["noise"]
            divergence = normal_divergence(*posterior, *prior) / len(asked)
        decoded = self._decode(params, known, pairs, asked, latent)
        if not self.is_regression:
            return self.loss(decoded, query.targets) + divergence, decoded
        mean, spread = gaussian(decoded)
        return negative_log_likelihood(query.targets, mean, spread) + divergence, mean

    def query_outputs(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Return means or logits, with the latent variable at its mean."""
        known, targets, asked = self.embed(params, support, inputs, context)
        pairs = torch.cat([known, targets], dim=1)
        latent = self._latent(params, pairs).mean if self.options.latent > 0 else None
        decoded = self._decode(params, known, pairs, asked, latent)
        return gaussian(decoded)[0] if self.is_regression else decoded

    def _decode(
        self, params: Params, known: Tensor, pairs: Tensor, asked: Tensor, latent: Tensor | None
    ) -> Tensor:
        heads = self.options.heads
        queries, keys = (split_heads(dense(params, "place", x), heads) for x in (asked, known))
        values = split_heads(dense(params, "encoder", pairs), heads)
        read = dense(params, "read", join_heads(attend(queries, keys, values)))
        parts = [asked, read] + ([] if latent is None else [latent.expand(len(asked), -1)])
        return dense(params, "decoder", torch.cat(parts, dim=1))

    def _latent(self, params: Params, pairs: Tensor) -> Latent:
        """Return q(z | pairs), which does not depend on the order of the pairs."""
        pooled = dense(params, "latent", pairs).mean(dim=0)
        mean, raw = dense(params, "latent_out", torch.relu(pooled)).chunk(2)
        return Latent(mean, 0.1 + 0.9 * torch.sigmoid(raw))
