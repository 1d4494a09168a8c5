"""ProtoMAML: MAML whose output layer is initialised from prototypes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.maml import MamlOptions, MamlSteps
from metafleet.learners.prototypes import class_means, require_classification, require_each_class
from metafleet.models.base import ModelFactory
from metafleet.options import name_of
from metafleet.params import Params
from metafleet.problem import Problem

_WEIGHT = "prototypes.weight"
_BIAS = "prototypes.bias"


@dataclass(frozen=True, slots=True)
class ProtoMamlOptions(MamlOptions):
    """Options of ``ProtoMaml``.

    Attributes:
        inner_lr: step size alpha of the adaptation, > 0.
    """

    inner_steps: int = 5
    inner_lr: float = 0.01


class ProtoMaml(MamlSteps[ProtoMamlOptions]):
    """Learn an embedding f. A few gradient steps fit f and a new head to an episode.

    The head of an episode is a linear layer. It starts with the weights W_k = 2 c_k and the biases
    b_k = -|c_k|^2, where c_k is the prototype of class k in the support set. This initial head
    gives the logits of a prototypical network. Then head and f adapt as in MAML. Meta-gradients
    also flow through the prototypes. Splits may differ in n_way.

    Source: Triantafillou et al. 2020, arXiv:1903.03096, section 3, "Proto-MAML", eq. 3.
    """

    name: ClassVar[str] = "protomaml"
    Options: ClassVar[type] = ProtoMamlOptions
    reads_targets: ClassVar[bool] = True

    @classmethod
    def build(cls, options: ProtoMamlOptions, problem: Problem, make_model: ModelFactory) -> Self:
        """Make the model without a head."""
        require_classification(problem, name_of(cls))
        return cls(options, model=make_model(None), problem=problem)

    @property
    def n_classes(self) -> int | None:
        """Return None, because an episode may have any number of classes."""
        return None

    def check_support(self, support: ExampleSet, n_way: int) -> None:
        """Check that the support set has every class, so that each has a prototype."""
        require_each_class(support.targets, n_way)

    def start(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return the parameters of f, and a head made from prototypes."""
        features = self.model.forward(params, support.inputs, context.normalise)
        means = class_means(features, support.targets, context.n_way)
        return params | {_WEIGHT: 2.0 * means, _BIAS: -means.square().sum(dim=1)}

    def outputs(
        self,
        params: Params,
        fast: Params,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Return the head's logits."""
        features = self.model.forward(fast, inputs, context.normalise)
        return features @ fast[_WEIGHT].T + fast[_BIAS]
