"""A user's module, an algorithm and the shapes of some examples, made into a learner."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from metafleet.episode import META_TRAIN, EpisodeShape, ExampleSet
from metafleet.errors import ConfigError, DataError
from metafleet.learners.base import LearnerClass
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.learners.registry import LEARNERS
from metafleet.models.base import Model
from metafleet.models.module_function import ModuleFunction
from metafleet.models.module_model import (
    ModuleModel,
    arguments,
    check_inputs,
    default_batch_norm,
)
from metafleet.models.module_survey import survey
from metafleet.options import parse_options
from metafleet.problem import LossFn, Problem

_ANOTHER = "another episode"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A learner that is asked for.

    Attributes:
        name: of the registry, or of the user's class.
        found: the class.
        options: its options, checked.
    """

    name: str
    found: type[LearnerClass]
    options: Any

    @classmethod
    def of(cls, algorithm: str | type[LearnerClass], options: Mapping[str, Any]) -> "Algorithm":
        """Look up a name, or take a class, and check the options.

        Raises:
            ConfigError: the name or an option is unknown, of another type, or out of range.
        """
        if isinstance(algorithm, str):
            return cls(algorithm, *LEARNERS.resolve({**options, "name": algorithm}))
        name = algorithm.__name__
        parsed: Any = parse_options(algorithm.Options, options, where=f"learner {name!r}")
        return cls(name, algorithm, parsed)


class ModuleFactory:
    """Builds ``ModuleModel``s: a ``ModelFactory``.

    Args:
        function: the module.
        inputs: examples of what it is called with, name -> [n, ...].
        batch_norm: mode; None for what the module does by itself.
        is_regression: whether outputs may have any shape.

    Attributes:
        n_outputs: how wide the head is that was built last; None for none.
    """

    def __init__(
        self,
        function: ModuleFunction,
        inputs: Mapping[str, Tensor],
        *,
        batch_norm: str | None,
        is_regression: bool,
    ) -> None:
        self.function = function
        self.inputs = inputs
        self._batch_norm = batch_norm or default_batch_norm(function)
        self._is_regression = is_regression
        self.n_outputs: int | None = None

    def __call__(
        self,
        n_outputs: int | None,
        /,
        *,
        extra_inputs: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Model:
        """Look at the module with these inputs; see ``ModelFactory``."""
        extra_inputs = extra_inputs or {}
        check_inputs(self.function, extra_inputs)
        modalities = tuple(self.inputs)
        first = next(iter(self.inputs.values()))
        extra = {
            name: torch.zeros(len(first), *shape, device=first.device)
            for name, shape in extra_inputs.items()
        }
        found = survey(self.function, arguments({**self.inputs, **extra}, modalities))
        if n_outputs is not None and not self._is_regression:
            self.n_outputs = _width(found.output_shape, n_outputs)
        return ModuleModel(
            self.function,
            found,
            modalities=modalities,
            batch_norm=self._batch_norm,
            has_head=n_outputs is not None,
        )


@dataclass(frozen=True, slots=True)
class Binding:
    """A learner, bound to a module.

    Attributes:
        algorithm: what was asked for.
        learner: what came of it.
        problem: shapes it was bound to.
        factory: what made its model.
    """

    algorithm: Algorithm
    learner: EpisodicLearner[Any]
    problem: Problem
    factory: ModuleFactory

    @property
    def n_way(self) -> int:
        """Classes of the episode it was bound to, or the width of the module's output layer."""
        return self.problem.episodes[META_TRAIN].n_way

    def check(self, inputs: Iterable[str], n_way: int) -> int:
        """Return the n_way with which the learner takes a support set.

        Raises:
            ConfigError: it has other inputs or more classes than the learner can take.
        """
        known, given = sorted(self.problem.modalities), sorted(inputs)
        if given != known:
            raise ConfigError(f"inputs are {given} but the first episode had {known}")
        if n_way == self.n_way:
            return n_way
        if 0 in (n_way, self.n_way):
            now, before = ("values", "classes") if n_way == 0 else ("classes", "values")
            raise DataError(f"targets are {now} but the first episode's were {before}")
        if self.factory.n_outputs is not None:
            if n_way > self.n_way:
                raise DataError(f"{n_way} classes but the module has {self.n_way} outputs")
            return self.n_way
        shapes = {**self.problem.episodes, _ANOTHER: EpisodeShape(n_way, 1, 1)}
        problem = replace(self.problem, episodes=shapes)
        # learners that cannot take both refuse, and say so
        self.algorithm.found.build(self.algorithm.options, problem, self.factory)
        return n_way


def bind(
    algorithm: Algorithm,
    function: ModuleFunction,
    support: ExampleSet,
    n_way: int,
    *,
    loss: LossFn | None,
    batch_norm: str | None,
) -> Binding:
    """Build the learner for episodes such as one with this support set.

    Raises:
        ConfigError: algorithm, module and data do not go together.
    """
    is_regression = n_way == 0
    n_classes = 0 if is_regression else max(n_way, 2)
    problem = Problem(
        {name: tuple(value.shape[1:]) for name, value in support.inputs.items()},
        _target_dim(support.targets, loss) if is_regression else 0,
        {META_TRAIN: EpisodeShape(n_classes, max(1, len(support) // max(n_way, 1)), 1)},
        None if loss is None else _checked(loss),
    )
    factory = ModuleFactory(
        function, support.inputs, batch_norm=batch_norm, is_regression=is_regression
    )
    learner = algorithm.found.build(algorithm.options, problem, factory)
    if factory.n_outputs not in (None, n_classes):
        shape = replace(problem.episodes[META_TRAIN], n_way=factory.n_outputs)
        problem = replace(problem, episodes={META_TRAIN: shape})
        learner = algorithm.found.build(algorithm.options, problem, factory)
    if not isinstance(learner, EpisodicLearner):
        raise ConfigError(
            f"learner {algorithm.name!r} is no EpisodicLearner; derive it from that class, or "
            "call its own methods"
        )
    if loss is not None:
        _require_default_loss(algorithm, learner)
    return Binding(algorithm, learner, problem, factory)


def _width(output_shape: tuple[int, ...], n_outputs: int) -> int:
    if len(output_shape) != 1:
        raise ConfigError(
            f"the module's outputs have shape {output_shape} for one example but targets are "
            "classes; expected logits (n_way,)"
        )
    if output_shape[0] < n_outputs:
        raise ConfigError(
            f"the module has {output_shape[0]} outputs but the episode {n_outputs} classes; "
            "expected an output for each class, numbered from 0"
        )
    return output_shape[0]


def _target_dim(targets: Tensor, loss: LossFn | None) -> int:
    if loss is None and not targets.is_floating_point():
        raise ConfigError(
            f"targets are whole numbers of shape {tuple(targets.shape)}; expected classes [n], "
            "values with floats, or a loss of yours"
        )
    return max(1, targets[0].numel())


def _checked(loss: LossFn) -> LossFn:
    """Refuse a loss that is no scalar, or that nothing can be learned from when it is first used.

    Later it may be a constant, as one with a mask is where the mask leaves nothing.
    """
    has_followed = False

    def checked(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal has_followed
        value = loss(outputs, targets)
        if not isinstance(value, Tensor) or value.dim() != 0:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(
                f"the loss returns {shape}; expected a scalar tensor, such as with reduction='mean'"
            )
        if outputs.requires_grad and not has_followed:
            if not value.requires_grad:
                raise ConfigError(
                    "the loss does not depend on the module's parameters; expected one computed "
                    "from the outputs, without detach(), item(), numpy() or no_grad()"
                )
            has_followed = True
        return value

    return checked


def _require_default_loss(algorithm: Algorithm, learner: EpisodicLearner[Any]) -> None:
    """Refuse a loss where a learner would not follow it everywhere."""
    kind = type(learner)
    objectives = (EpisodicLearner.objective, InnerLoopLearner.objective)
    if kind.loss is not EpisodicLearner.loss or kind.objective not in objectives:
        raise ConfigError(
            f"learner {algorithm.name!r} has a loss of its own; leave loss out, or choose another "
            "learner, such as 'maml'"
        )


def example_parameter(module: nn.Module) -> Tensor:
    """Return a parameter that tells where the module is and how precise.

    Raises:
        ConfigError: it has none with floats.
    """
    for value in module.parameters():
        if value.is_floating_point():
            return value
    raise ConfigError("the module has no parameters; expected some to learn")
