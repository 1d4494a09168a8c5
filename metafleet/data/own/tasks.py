"""User-defined task distributions: functions from random numbers to an episode."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor

from metafleet.data.functions.computed import check_split, refuse_special
from metafleet.data.own.checking import check_inputs, check_modalities, check_targets
from metafleet.episode import Episode, EpisodeShape, ExampleSet
from metafleet.episodes.source import EpisodeSource, check_counts
from metafleet.errors import ConfigError, DataError
from metafleet.purity.process_state import kept_as_it_is, seed_generators
from metafleet.registry import readable_errors
from metafleet.seeds import CounterRng

Examples: TypeAlias = tuple[Tensor | Mapping[str, Tensor], Tensor]
"""x, float32 [n, *shape] or one tensor per modality; and y, see ``TaskDistribution.draw``."""

_ANY_SEED = 0


class TaskDistribution(Protocol):
    """Interface of a user's class, which need not inherit from this one.

    Attributes:
        Options: a frozen dataclass with the options of ``[data]`` other than "name".
        version: version of the episodes, which is part of the data digest. Change it when episodes
            change.
        modalities: modality -> shape of one example, such as ``{"x": (2,)}``.
        target_dim: number of values to predict per example; 0 for classification.
    """

    Options: ClassVar[type]
    version: ClassVar[str]

    def __init__(self, options: Any) -> None: ...

    @property
    def modalities(self) -> Mapping[str, tuple[int, ...]]:
        """Modality -> shape of one example."""
        ...

    @property
    def target_dim(self) -> int:
        """Number of values to predict per example; 0 for classification."""
        ...

    def draw(self, rng: CounterRng, shape: EpisodeShape, split: str) -> tuple[Examples, Examples]:
        """Return the support set and the query set of the episode that ``rng`` addresses.

        Args:
            rng: source of all random numbers. The global generators of Python, NumPy and torch have
                also been seeded from it.
            shape: n_way (0 for regression), k_shot and n_query.
            split: "meta_train", "meta_val" or "meta_test".

        Returns:
            (x, y) of the support set and (x, y) of the query set. In regression, the sets have
            k_shot and n_query examples. In classification, they have k_shot and n_query examples of
            each class. y is float32 [n, target_dim], or int64 [n] in [0, n_way), ordered by class.
        """
        ...


class TaskSource(EpisodeSource):
    """Draws episodes from a task distribution and checks each of them.

    Args:
        name: the data set's name, for messages.
        distribution: the user's class.
        options: the class's options.

    Raises:
        ConfigError: the class cannot be instantiated, or does not describe its examples
            correctly.
    """

    def __init__(self, name: str, distribution: type[TaskDistribution], options: Any) -> None:
        self._name = name
        with kept_as_it_is(), readable_errors(f"data set {name!r}: the data set cannot be made"):
            seed_generators(CounterRng(_ANY_SEED, "data set"))
            self._tasks = distribution(options)
            modalities, self._target_dim = self._tasks.modalities, self._tasks.target_dim
        self._modalities = check_modalities(name, modalities)
        if type(self._target_dim) is not int or self._target_dim < 0:
            raise ConfigError(
                f"data set {name!r} has target_dim={self._target_dim!r}; expected a whole number: "
                "of values to predict, or 0 for classes"
            )

    @property
    def modalities(self) -> Mapping[str, tuple[int, ...]]:
        """Return the modalities that the class declares."""
        return self._modalities

    @property
    def target_dim(self) -> int:
        """Return the ``target_dim`` that the class declares; 0 for classification."""
        return self._target_dim

    def n_classes(self, split: str) -> int:
        """Return 0, because classes are drawn, not listed."""
        check_split(self._name, split)
        return 0

    def check(self, split: str, shape: EpisodeShape) -> None:
        """Check the shape, and draw 3 episodes to test that the class is deterministic.

        Raises:
            ConfigError: the shape does not fit these data.
            DataError: an episode is invalid, or it differs when it is drawn again.
        """
        self._check_shape(split, shape)
        first, _, again = (
            self.sample(split, shape, CounterRng(_ANY_SEED, split, 0, index)) for index in (0, 1, 0)
        )
        if not _are_equal(first, again):
            raise DataError(
                f"data set {self._name!r} drew two different episodes from the same random numbers "
                f"({split}); expected draw to be a function of its arguments: take random numbers "
                "from rng, and keep nothing from call to call"
            )

    def sample(self, split: str, shape: EpisodeShape, rng: CounterRng) -> Episode:
        """Draw the episode that ``rng`` addresses.

        Raises:
            ConfigError: the shape does not fit these data.
            DataError: the episode has another shape or dtype, or is not finite.
        """
        self._check_shape(split, shape)
        where = f"{split} episode={rng.index}"
        what = f"data set {self._name!r}: draw failed in {where}"
        with kept_as_it_is(), torch.no_grad(), readable_errors(what):
            seed_generators(rng)
            drawn = self._tasks.draw(rng, shape, split)
        parts = _pair(drawn, f"data set {self._name!r} drew in {where} no pair of sets")
        n_each = max(shape.n_way, 1)
        return Episode(
            self._examples(parts[0], shape.n_way, shape.k_shot * n_each, f"support of {where}"),
            self._examples(parts[1], shape.n_way, shape.n_query * n_each, f"query of {where}"),
            shape.n_way,
        )

    def _examples(self, part: object, n_way: int, n: int, where: str) -> ExampleSet:
        what = f"data set {self._name!r}: {where}"
        x, y = _pair(part, f"{what} is no pair of x and y")
        inputs = check_inputs(x, self._modalities, n, what)
        return ExampleSet(inputs, check_targets(y, n, self._target_dim, n_way, what))

    def _check_shape(self, split: str, shape: EpisodeShape) -> None:
        check_split(self._name, split)
        check_counts(shape)
        refuse_special(self._name, shape)
        if self._target_dim and shape.n_way != 0:
            raise ConfigError(
                f"n_way={shape.n_way} but data set {self._name!r} is regression; set n_way=0"
            )
        if not self._target_dim and shape.n_way < 2:
            raise ConfigError(
                f"n_way={shape.n_way} but data set {self._name!r} is classification; "
                "expected 2 or more"
            )


def _pair(value: object, what: str) -> tuple[Any, Any]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise DataError(f"{what} but {type(value).__name__}; return (x, y), (query_x, query_y)")
    return value[0], value[1]


def _are_equal(one: Episode, other: Episode) -> bool:
    return all(
        torch.equal(mine.targets, theirs.targets)
        and all(torch.equal(values, theirs.inputs[name]) for name, values in mine.inputs.items())
        for mine, theirs in ((one.support, other.support), (one.query, other.query))
    )
