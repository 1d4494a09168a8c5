"""Model-agnostic meta-learning, second and first order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from metafleet.cancellation import stop_if_unwanted
from metafleet.episode import Episode, ExampleSet
from metafleet.learners.base import EpisodeMetrics, MetaGradient
from metafleet.learners.objective import (
    as_leaves,
    judge,
    mean_loss,
    meta_gradient,
    require_finite_losses,
)
from metafleet.models.base import Model, ModelFactory
from metafleet.models.batch_norm import EpisodeNorm, Normalise
from metafleet.options import require
from metafleet.params import MetaState, Params
from metafleet.problem import Problem


@dataclass(frozen=True, slots=True)
class MamlOptions:
    """Options of ``Maml``.

    Attributes:
        inner_lr: step size alpha of the adaptation, > 0.
        inner_steps: gradient steps of the adaptation in meta-training, >= 1.
        inner_steps_eval: gradient steps when judged; None for ``inner_steps``.
        first_order: drop second derivatives (FOMAML).
    """

    inner_lr: float = 0.4
    inner_steps: int = 5
    inner_steps_eval: int | None = None
    first_order: bool = False

    def __post_init__(self) -> None:
        require(self.inner_lr > 0.0, "inner_lr", self.inner_lr, "more than 0")
        require(self.inner_steps >= 1, "inner_steps", self.inner_steps, "1 or more")
        n_eval = self.inner_steps_eval
        require(n_eval is None or n_eval >= 1, "inner_steps_eval", n_eval, "1 or more")


class Maml:
    """Learn an initialisation theta from which a few gradient steps fit an episode.

    The support set S adapts, theta_0 = theta, theta_{j+1} = theta_j - alpha * grad L_S(theta_j),
    and the query set Q judges: the meta-gradient is d L_Q(theta_k) / d theta. First order takes
    grad L_Q at theta_k in its place.

    Source: Finn et al. 2017, arXiv:1703.03400, eq. 1 and algorithms 2 and 3; first order in
    section 5.2.
    """

    Options: ClassVar[type] = MamlOptions

    def __init__(self, options: MamlOptions, *, model: Model, is_regression: bool) -> None:
        self._options = options
        self._model = model
        self._is_regression = is_regression

    @classmethod
    def build(cls, options: MamlOptions, problem: Problem, make_model: ModelFactory) -> Self:
        """Give the model a head as wide as the problem, which must be so in every split."""
        model = make_model(problem.fixed_outputs("maml"))
        return cls(options, model=model, is_regression=problem.is_regression)

    @property
    def batch_norm(self) -> str:
        """The model's batch norm mode."""
        return self._model.batch_norm

    def init_state(self, seed: int) -> MetaState:
        """Draw the model's parameters."""
        return MetaState(self._model.init_params(seed), self._model.init_buffers())

    def episode_gradient(self, state: MetaState, episode: Episode) -> MetaGradient:
        """Adapt to the support set and differentiate the query loss through the adaptation."""
        norm = EpisodeNorm(self.batch_norm, state.buffers, is_training=True)
        theta = as_leaves(state.params)
        with torch.enable_grad():
            adapted = self._adapt(
                theta,
                episode.support,
                norm,
                inner_steps=self._options.inner_steps,
                create_graph=not self._options.first_order,
            )
            outputs = self._query(adapted, episode.support, episode.query.inputs, norm)
            loss = mean_loss(outputs, episode.query.targets, is_regression=self._is_regression)
        metrics = self._judge(outputs, episode.query.targets, loss)
        return MetaGradient(meta_gradient(loss, theta), norm.statistics(), (metrics,))

    def evaluate(self, state: MetaState, episode: Episode) -> EpisodeMetrics:
        """Adapt to the support set and judge the query set.

        Raises:
            NumericsError: a loss is not finite.
        """
        outputs = self.predict(state, episode.support, episode.query.inputs, episode.n_way)
        targets = episode.query.targets
        loss = mean_loss(outputs, targets, is_regression=self._is_regression)
        return self._judge(outputs, targets, loss)

    def predict(
        self, state: MetaState, support: ExampleSet, inputs: Mapping[str, Tensor], n_way: int
    ) -> Tensor:
        """Adapt to ``support`` and predict ``inputs``; ``n_way`` is the one trained for."""
        norm = EpisodeNorm(self.batch_norm, state.buffers, is_training=False)
        steps = self._options.inner_steps_eval or self._options.inner_steps
        theta = as_leaves(state.params)
        with torch.enable_grad():
            adapted = self._adapt(theta, support, norm, inner_steps=steps, create_graph=False)
        with torch.no_grad():
            return self._query(adapted, support, inputs, norm)

    def _adapt(
        self,
        theta: Params,
        support: ExampleSet,
        norm: EpisodeNorm,
        *,
        inner_steps: int,
        create_graph: bool,
    ) -> Params:
        """Return theta_k, still attached to ``theta``."""
        adapted, losses = theta, []
        for _ in range(inner_steps):
            stop_if_unwanted()
            outputs = self._forward(adapted, support.inputs, norm.support)
            loss = mean_loss(outputs, support.targets, is_regression=self._is_regression)
            grads = torch.autograd.grad(loss, list(adapted.values()), create_graph=create_graph)
            adapted = {
                name: value - self._options.inner_lr * grad
                for (name, value), grad in zip(adapted.items(), grads, strict=True)
            }
            losses.append(loss)
        # looked at once and not at each step: what diverged stays so, and GPUs need not wait
        require_finite_losses(losses, inner_lr=self._options.inner_lr)
        return adapted

    def _query(
        self,
        adapted: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        norm: EpisodeNorm,
    ) -> Tensor:
        if norm.needs_support_pass:
            self._forward(adapted, support.inputs, norm.capture)
        return self._forward(adapted, inputs, norm.query)

    def _forward(self, params: Params, inputs: Mapping[str, Tensor], norm: Normalise) -> Tensor:
        return self._model.forward(params, inputs, norm)

    def _judge(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> EpisodeMetrics:
        return judge(outputs.detach(), targets, loss.detach(), is_regression=self._is_regression)
