"""Execute episodes one by one: by autograd, or in memory that does not grow with inner steps."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from metafleet.episode import Episode
from metafleet.errors import ConfigError, NumericsError
from metafleet.execution.constant_memory import recomputed, why_not_recomputed
from metafleet.execution.precision import in_precision
from metafleet.execution.strategy import Strategy
from metafleet.learners.base import EpisodeMetrics, Learner, MetaGradient
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.params import MetaState, Params
from metafleet.purity.hidden_state import HiddenState

_BFLOAT16_TOLERANCE = 0.05


class AutogradExecution:
    """Differentiates each episode by autograd: the default, which works for every learner."""

    def __init__(self, strategy: Strategy, learner: Learner, *, device: str) -> None:
        self.strategy = strategy
        self._learner, self._device = learner, device

    def gradient(
        self, state: MetaState, episodes: Iterable[Episode], *, first: int = 0
    ) -> MetaGradient:
        """Sum the meta-gradients of ``episodes``; see ``Execution``."""
        grads: Params = {}
        buffers: Params = {}
        metrics: list[EpisodeMetrics] = []
        for index, episode in enumerate(episodes, first):
            try:
                with in_precision(self.strategy.precision, self._device):
                    gradient = self._compute(state, episode)
            except NumericsError as error:
                raise NumericsError(f"episode={index}: {error}") from error
            add_to(grads, gradient.grads)
            add_to(buffers, gradient.buffers)
            metrics.extend(gradient.metrics)
        return MetaGradient(grads, buffers, tuple(metrics))

    def _compute(self, state: MetaState, episode: Episode) -> MetaGradient:
        return self._learner.episode_gradient(state, episode)


class ConstantMemoryExecution(AutogradExecution):
    """Keeps the fast parameters of each inner step, and recomputes steps in the backward sweep.

    Raises:
        ConfigError: the learner does not differentiate through inner steps.
    """

    def __init__(self, strategy: Strategy, learner: Learner, *, device: str) -> None:
        super().__init__(strategy, learner, device=device)
        if reason := why_not_recomputed(learner):
            raise ConfigError(f"execution='constant_memory' but {reason}; choose 'autograd'")
        assert isinstance(learner, InnerLoopLearner)
        self._inner_loop = learner
        self._hidden = HiddenState(learner, devices=[device])
        self._tolerance = 0.0 if strategy.precision == "float32" else _BFLOAT16_TOLERANCE

    def _compute(self, state: MetaState, episode: Episode) -> MetaGradient:
        learner = self._inner_loop
        learner.check_support(episode.support, episode.n_way)
        with torch.no_grad():
            outcome = recomputed(learner, state, episode, self._hidden, tolerance=self._tolerance)
        return learner.finish(outcome, episode)


def add_to(total: Params, term: Mapping[str, Tensor]) -> None:
    """Add ``term`` in place; the first term becomes the total."""
    for name, tensor in term.items():
        if name in total:
            total[name] += tensor
        else:
            total[name] = tensor
