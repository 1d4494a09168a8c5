"""The baseline every learner must beat: the nearest class mean of raw features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from metafleet.episode import Episode, ExampleSet
from metafleet.learners.base import EpisodeMetrics, MetaGradient
from metafleet.learners.objective import judge, mean_loss
from metafleet.learners.prototypes import class_means, require_classification, squared_distances
from metafleet.models.base import ModelFactory
from metafleet.params import MetaState
from metafleet.problem import Problem


@dataclass(frozen=True, slots=True)
class NearestPrototypeOptions:
    """Options of ``NearestPrototype``: none."""


class NearestPrototype:
    """Prototypical networks with the identity as embedding; there is nothing to learn.

    Features are the modalities as they come, flattened and joined in order of name.

    Source: Mensink et al. 2013, doi:10.1109/TPAMI.2013.83, eq. 1 and 2 (nearest class mean).
    """

    Options: ClassVar[type] = NearestPrototypeOptions

    @classmethod
    def build(
        cls, options: NearestPrototypeOptions, problem: Problem, make_model: ModelFactory
    ) -> Self:
        """Take no model."""
        require_classification(problem, "nearest_prototype")
        return cls()

    @property
    def batch_norm(self) -> str:
        """There is none."""
        return "none"

    def init_state(self, seed: int) -> MetaState:
        """Return the empty state."""
        return MetaState({}, {})

    def episode_gradient(self, state: MetaState, episode: Episode) -> MetaGradient:
        """Return no gradient, only how the episode went."""
        return MetaGradient({}, {}, (self.evaluate(state, episode),))

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
        prototypes = class_means(_raw_features(support.inputs), support.targets, n_way)
        return -squared_distances(_raw_features(inputs), prototypes)


def _raw_features(inputs: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([inputs[name].flatten(1) for name in sorted(inputs)], dim=1)
