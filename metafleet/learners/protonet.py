"""Prototypical networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from metafleet.episode import Episode, ExampleSet
from metafleet.learners.base import EpisodeMetrics, MetaGradient
from metafleet.learners.objective import as_leaves, judge, mean_loss, meta_gradient
from metafleet.learners.prototypes import class_means, require_classification, squared_distances
from metafleet.models.base import Model, ModelFactory
from metafleet.models.batch_norm import EpisodeNorm
from metafleet.params import MetaState, Params
from metafleet.problem import Problem


@dataclass(frozen=True, slots=True)
class ProtonetOptions:
    """Options of ``Protonet``: none."""


class Protonet:
    """Learn an embedding in which a class is its mean, c_k = mean of f(x) over its support.

    The logits of a query x are -|f(x) - c_k|^2. Nothing learned depends on n_way, so splits may
    differ in it.

    Source: Snell et al. 2017, arXiv:1703.05175, eq. 1, eq. 2 and algorithm 1.
    """

    Options: ClassVar[type] = ProtonetOptions

    def __init__(self, options: ProtonetOptions, *, model: Model) -> None:
        self._options = options
        self._model = model

    @classmethod
    def build(cls, options: ProtonetOptions, problem: Problem, make_model: ModelFactory) -> Self:
        """Take the model without a head, as an embedding."""
        require_classification(problem, "protonet")
        return cls(options, model=make_model(None))

    @property
    def batch_norm(self) -> str:
        """The model's batch norm mode."""
        return self._model.batch_norm

    def init_state(self, seed: int) -> MetaState:
        """Draw the model's parameters."""
        return MetaState(self._model.init_params(seed), self._model.init_buffers())

    def episode_gradient(self, state: MetaState, episode: Episode) -> MetaGradient:
        """Embed the episode and differentiate the query loss."""
        norm = EpisodeNorm(self.batch_norm, state.buffers, is_training=True)
        params = as_leaves(state.params)
        with torch.enable_grad():
            logits = self._logits(
                params, episode.support, episode.query.inputs, norm, n_way=episode.n_way
            )
            loss = mean_loss(logits, episode.query.targets, is_regression=False)
        metrics = judge(logits.detach(), episode.query.targets, loss.detach(), is_regression=False)
        return MetaGradient(meta_gradient(loss, params), norm.statistics(), (metrics,))

    def evaluate(self, state: MetaState, episode: Episode) -> EpisodeMetrics:
        """Classify the query set by its nearest prototypes.

        Raises:
            NumericsError: the loss is not finite.
        """
        logits = self.predict(state, episode.support, episode.query.inputs, episode.n_way)
        loss = mean_loss(logits, episode.query.targets, is_regression=False)
        return judge(logits, episode.query.targets, loss, is_regression=False)

    def predict(
        self, state: MetaState, support: ExampleSet, inputs: Mapping[str, Tensor], n_way: int
    ) -> Tensor:
        """Return the logits of ``inputs``, minus squared distances to the prototypes."""
        norm = EpisodeNorm(self.batch_norm, state.buffers, is_training=False)
        with torch.no_grad():
            return self._logits(state.params, support, inputs, norm, n_way=n_way)

    def _logits(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        norm: EpisodeNorm,
        *,
        n_way: int,
    ) -> Tensor:
        embedded_support, embedded = self._embed(params, support, inputs, norm)
        prototypes = class_means(embedded_support, support.targets, n_way)
        return -squared_distances(embedded, prototypes)

    def _embed(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        norm: EpisodeNorm,
    ) -> tuple[Tensor, Tensor]:
        if norm.needs_support_pass:
            embedded_support = self._model.forward(params, support.inputs, norm.capture)
            return embedded_support, self._model.forward(params, inputs, norm.query)
        # support and query are one batch, as in Snell's code: distances between them only mean
        # something when both are normalised alike
        joint = {name: torch.cat([values, inputs[name]]) for name, values in support.inputs.items()}
        embedded = self._model.forward(params, joint, norm.query)
        return embedded[: len(support)], embedded[len(support) :]
