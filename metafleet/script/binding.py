"""Build a learner from a user's module, an algorithm and the shapes of some examples."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from metafleet.episode import META_TRAIN, EpisodeShape, ExampleSet
from metafleet.errors import ConfigError, DataError
from metafleet.learners.base import Learner, LearnerClass
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.gradient_steps import GradientSteps
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.learners.registry import LEARNERS
from metafleet.models.module_function import ModuleFunction
from metafleet.options import parse_options
from metafleet.problem import LossFn, Problem
from metafleet.script.module_factory import ModuleFactory, returns_structure
from metafleet.script.plain_episode import ONLY_INPUT

_ANOTHER = "another episode"
_GENTLE_RATE = 0.01
"""Upper bound of the default ``inner_lr`` in a training loop."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The learner that the user chose.

    Attributes:
        name: the learner's name in the registry, or the name of the user's class.
        found: the learner class.
        options: the learner's options, already checked.
        given: names of the options that the user set.
    """

    name: str
    found: type[LearnerClass]
    options: Any
    given: frozenset[str] = frozenset()

    @classmethod
    def of(cls, algorithm: str | type[LearnerClass], options: Mapping[str, Any]) -> "Algorithm":
        """Look up a name, or accept a class, and check the options.

        Raises:
            ConfigError: the name or an option is unknown, of the wrong type, or out of range.
        """
        if isinstance(algorithm, str):
            found = LEARNERS.resolve({**options, "name": algorithm})
            return cls(algorithm, *found, frozenset(options))
        if not isinstance(algorithm, type) or not hasattr(algorithm, "Options"):
            raise ConfigError(
                f"algorithm is {algorithm!r:.80}; expected a learner's name, such as 'maml', or a "
                "class derived from EpisodicLearner"
            )
        name = algorithm.__name__
        parsed: Any = parse_options(algorithm.Options, options, where=f"learner {name!r}")
        return cls(name, algorithm, parsed, frozenset(options))

    @property
    def takes_losses(self) -> bool:
        """Whether an episode of this learner is only steps along losses of the module."""
        found = self.found
        return issubclass(found, GradientSteps) and found.__dict__.get("takes_losses", False)

    def for_losses(self) -> "Algorithm":
        """Return this algorithm with a step size that suits any loss, unless the user set one.

        The default step sizes come from papers on episodes of images. Training on squared errors
        diverges with the default step sizes.
        """
        rate = getattr(self.options, "inner_lr", None)
        if rate is None or "inner_lr" in self.given or not self.takes_losses:
            return self
        return replace(self, options=replace(self.options, inner_lr=min(rate, _GENTLE_RATE)))


@dataclass(frozen=True, slots=True)
class Binding:
    """A learner bound to a module.

    Attributes:
        algorithm: the algorithm that the user chose.
        learner: the learner built from this algorithm.
        problem: the shapes that the learner was built for.
        factory: the factory that made the learner's model.
        is_packed: whether the module returns a dict or tuple. If it does, targets are values, not
            classes.
    """

    algorithm: Algorithm
    learner: EpisodicLearner[Any]
    problem: Problem
    factory: ModuleFactory
    is_packed: bool = False

    def with_algorithm(self, algorithm: Algorithm) -> "Binding":
        """Return the same binding with other options of the algorithm."""
        learner = algorithm.found.build(algorithm.options, self.problem, self.factory)
        return replace(self, algorithm=algorithm, learner=_episodic(algorithm, learner))

    @property
    def is_seen(self) -> bool:
        """Whether the binding has seen inputs; a training loop supplies only losses."""
        return bool(self.factory.inputs)

    @property
    def n_way(self) -> int:
        """Classes of the episode it was bound to, or the width of the module's output layer."""
        return self.problem.episodes[META_TRAIN].n_way

    def check(self, n_way: int) -> int:
        """Return the number of the learner's outputs for a support set of ``n_way`` classes.

        Raises:
            ConfigError: the learner cannot handle that many classes.
            DataError: the module has fewer than ``n_way`` outputs, or the kind of targets (classes
                or values) differs from that of earlier support sets.
        """
        if n_way == self.n_way:
            return n_way
        if self.is_packed:
            return 0
        if 0 in (n_way, self.n_way):
            now, before = ("values", "classes") if n_way == 0 else ("classes", "values")
            raise DataError(f"targets are {now} but the first episode's were {before}")
        if self.factory.n_outputs is not None:
            if n_way > self.n_way:
                raise DataError(f"{n_way} classes but the module has {self.n_way} outputs")
            return self.n_way
        shapes = {**self.problem.episodes, _ANOTHER: EpisodeShape(n_way, 1, 1)}
        problem = replace(self.problem, episodes=shapes)
        # a learner that cannot handle both numbers of classes raises here
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
    """Build the learner for episodes whose support sets have the same shapes as ``support``.

    Raises:
        ConfigError: algorithm, module and data do not fit together.
    """
    if n_way > 0 and loss is not None and returns_structure(function, support.inputs):
        n_way = 0  # we do not know which of the outputs are logits
    is_regression = n_way == 0
    n_classes = 0 if is_regression else max(n_way, 2)
    problem = Problem(
        {name: tuple(value.shape[1:]) for name, value in support.inputs.items()},
        _target_dim(support.targets, loss) if is_regression else 0,
        {META_TRAIN: EpisodeShape(n_classes, max(1, len(support) // max(n_way, 1)), 1)},
        loss,
    )
    factory = ModuleFactory(
        function, support.inputs, batch_norm=batch_norm, is_regression=is_regression
    )
    learner = algorithm.found.build(algorithm.options, problem, factory)
    if factory.n_outputs not in (None, n_classes):
        shape = replace(problem.episodes[META_TRAIN], n_way=factory.n_outputs)
        problem = replace(problem, episodes={META_TRAIN: shape})
        learner = algorithm.found.build(algorithm.options, problem, factory)
    episodic = _episodic(algorithm, learner)
    if loss is not None:
        _require_default_loss(algorithm, episodic)
    return Binding(algorithm, episodic, problem, factory, function.layout is not None)


def require_losses_enough(algorithm: Algorithm) -> None:
    """Check that the learner needs only losses of the module, and nothing else of an episode.

    Raises:
        ConfigError: the learner's class does not set ``takes_losses``.
    """
    if not algorithm.takes_losses:
        raise ConfigError(
            f"learner {algorithm.name!r} needs more of a task than losses of its batches; call "
            "optimize([(sx, sy, qx, qy)]) with support and query sets"
        )


def bind_to_losses(
    algorithm: Algorithm, function: ModuleFunction, *, batch_norm: str | None
) -> Binding:
    """Build the learner for losses that the user's loop computes, without knowing any inputs.

    Raises:
        ConfigError: algorithm and module do not fit together.
    """
    problem = Problem({ONLY_INPUT: ()}, 1, {META_TRAIN: EpisodeShape(0, 1, 1)})
    factory = ModuleFactory(function, {}, batch_norm=batch_norm, is_regression=True)
    learner = algorithm.found.build(algorithm.options, problem, factory)
    return Binding(algorithm, _episodic(algorithm, learner), problem, factory)


def _target_dim(targets: Tensor, loss: LossFn | None) -> int:
    if loss is None and not targets.is_floating_point():
        raise ConfigError(
            f"targets are whole numbers of shape {tuple(targets.shape)}; expected classes [n], "
            "values with floats, or a loss of yours"
        )
    return max(1, targets[0].numel())


def _episodic(algorithm: Algorithm, learner: Learner) -> EpisodicLearner[Any]:
    if not isinstance(learner, EpisodicLearner):
        raise ConfigError(
            f"learner {algorithm.name!r} is no EpisodicLearner; derive it from that class, or "
            "call its own methods"
        )
    return learner


def _require_default_loss(algorithm: Algorithm, learner: EpisodicLearner[Any]) -> None:
    """Reject a user's loss if the learner would not use it everywhere."""
    kind = type(learner)
    objectives = (EpisodicLearner.objective, InnerLoopLearner.objective)
    if kind.loss is not EpisodicLearner.loss or kind.objective not in objectives:
        raise ConfigError(
            f"learner {algorithm.name!r} has a loss of its own; leave loss out, or choose another "
            "learner, such as 'maml'"
        )


def example_parameter(module: nn.Module) -> Tensor:
    """Return a parameter that has the module's device and precision.

    Raises:
        ConfigError: the module has no floating point parameter.
    """
    for value in module.parameters():
        if value.is_floating_point():
            return value
    for value in module.parameters():
        if value.is_complex():
            return torch.view_as_real(value.detach())
    raise ConfigError("the module has no parameters; expected some to learn")
