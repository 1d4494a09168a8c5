"""The base of heads: learners without parameters of their own, which classify features.

A head subtracts a centre from the features, and then compares the directions of the differences.
With the model ``raw``, the features are the data, which may be the features of a pretrained
encoder. With another model, the features are the model's embeddings.
"""

from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from metafleet.episode import CLASS_TEXT, Episode
from metafleet.learners.base import EpisodeOutcome
from metafleet.learners.context import EpisodeContext
from metafleet.learners.metric import MetricLearner
from metafleet.learners.prototypes import one_hot, require_classification
from metafleet.models.base import Model, ModelFactory
from metafleet.models.marked_features import Marked, MarkedFeatures
from metafleet.models.raw_features import RawFeatures
from metafleet.options import name_of, require
from metafleet.params import MetaState, Params
from metafleet.problem import Problem

_SUM, _WEIGHT = "features.sum", "features.weight"
_TINY = 1e-12
"""Added to squared lengths, so that zeros stay zeros with finite first two derivatives."""


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """Options that all heads share.

    Attributes:
        centre: the vector that is subtracted from features. "training" is the mean of the features
            in training episodes. For a modality that no training example had, "training" is the
            same as "support". "support" is the mean of the class means of the support set. "none"
            subtracts nothing.
        temperature: number by which logits are divided, > 0.
    """

    centre: Literal["training", "support", "none"] = "training"
    temperature: float = 0.1

    def __post_init__(self) -> None:
        is_finite = 0.0 < self.temperature < float("inf")
        require(is_finite, "temperature", self.temperature, "a finite number above 0")


HeadT = TypeVar("HeadT", bound=HeadOptions)


class Directions(NamedTuple):
    """Centred features of n examples, with each modality scaled to length 1.

    Attributes:
        values: [n, d]; zeros for modalities that an example lacks.
        present: [n, modalities]; 1 if an example has the modality, else 0.
    """

    values: Tensor
    present: Tensor


class FrozenHead(MetricLearner[HeadT], Generic[HeadT]):
    """A head on features of one or several modalities. All modalities have equal weight.

    A head has no parameters. Its state has two buffers, "features.sum" [d] and "features.weight"
    [modalities], which are running averages over outer steps. The sum divided by the weight is the
    mean of the training features. A weight of 0 means that no training example had the modality.

    Source: Wang et al. 2019, arXiv:1911.04623 (centre, scale, then compare).
    """

    def __init__(self, options: HeadT, *, model: Model, problem: Problem) -> None:
        super().__init__(options, model=model, problem=problem)
        self._raw = model if isinstance(model, MarkedFeatures) else None

    @classmethod
    def build(cls, options: HeadT, problem: Problem, make_model: ModelFactory) -> Self:
        """Make the head on a model; "raw" is replaced by a model that marks missing modalities.

        Raises:
            ConfigError: the data are for regression.
        """
        require_classification(problem, name_of(cls))
        model = make_model(None)
        if isinstance(model, RawFeatures):
            seen = {name: s for name, s in problem.modalities.items() if name != CLASS_TEXT}
            model = MarkedFeatures(seen, problem.texts)
        return cls(options, model=model, problem=problem)

    def init_state(self, seed: int) -> MetaState:
        """Draw the model's parameters, and set the buffers to 0 because nothing was trained."""
        state = super().init_state(seed)
        sizes = self._sizes()
        unknown = {_SUM: torch.zeros(sum(sizes)), _WEIGHT: torch.zeros(len(sizes))}
        return MetaState(state.params, {**state.buffers, **unknown})

    def compute(self, params: Params, episode: Episode, context: EpisodeContext) -> EpisodeOutcome:
        """Compute an episode of meta-training, with the mean of its support features."""
        outcome = super().compute(params, episode, context)
        seen = {name: context.notes.values(name)[0] for name in (_SUM, _WEIGHT)}
        return outcome._replace(statistics={**outcome.statistics, **seen})

    def centre_of(self, support: Tensor, targets: Tensor, context: EpisodeContext) -> Tensor:
        """Return the vector [d] that is subtracted from features.

        In meta-training, also record the mean of the support set's features.

        Args:
            support: embeddings of the support set, as passed to ``fit``.
            targets: classes of the support set.
            context: the episode's context.
        """
        parts = self._apart(support)
        if context.is_training:
            sums = [part.present @ part.values / _at_least_1(part.present.sum()) for part in parts]
            context.notes.add(_SUM, torch.cat(sums))
            weights = [(part.present.sum() > 0).to(support.dtype) for part in parts]
            context.notes.add(_WEIGHT, torch.stack(weights))
        if self.options.centre == "none":
            return torch.cat([torch.zeros_like(part.values[0]) for part in parts])
        own = torch.cat([_mean_of_classes(part, targets, context.n_way) for part in parts])
        if self.options.centre == "support":
            return own
        sizes = torch.tensor(self._sizes(), device=support.device)
        total = context.norm.buffers[_SUM].to(support)
        weight = context.norm.buffers[_WEIGHT].to(support)
        weight = weight.repeat_interleave(sizes, output_size=len(own))
        is_known = weight > 0
        return torch.where(is_known, total / torch.where(is_known, weight, 1.0), own)

    def directions(self, features: Tensor, centre: Tensor) -> Directions:
        """Subtract ``centre`` from features [n, ...], and scale each modality to length 1."""
        parts = self._apart(features)
        centres = torch.split(centre, self._sizes())
        values = [
            _unit(part.values - its) * part.present[:, None]
            for part, its in zip(parts, centres, strict=True)
        ]
        return Directions(
            torch.cat(values, dim=1), torch.stack([part.present for part in parts], dim=1)
        )

    def scaled(self, values: Tensor) -> Tensor:
        """Scale each modality of ``values`` [n, d] to length 1. Zeros stay zeros."""
        return torch.cat([_unit(part) for part in torch.split(values, self._sizes(), dim=1)], dim=1)

    def _apart(self, features: Tensor) -> list[Marked]:
        if self._raw is not None:
            return list(self._raw.apart(features))
        flat = features.flatten(1)
        return [Marked(flat, torch.ones_like(flat[:, 0]))]

    def _sizes(self) -> list[int]:
        if self._raw is not None:
            return self._raw.sizes
        return [int(torch.Size(self.model.feature_shape).numel())]


def _mean_of_classes(part: Marked, targets: Tensor, n_way: int) -> Tensor:
    """Return the mean [d] of the class means, over the classes that have the modality."""
    membership = one_hot(targets, n_way, part.values) * part.present[:, None]
    counts = membership.sum(dim=0)
    means = (membership.T @ part.values) / _at_least_1(counts)[:, None]
    return means.sum(dim=0) / _at_least_1((counts > 0).sum())


def _unit(values: Tensor) -> Tensor:
    return values * (values.square().sum(dim=1, keepdim=True) + _TINY).rsqrt()


def _at_least_1(count: Tensor) -> Tensor:
    return count.clamp(min=1)
