"""Episodes as a script has them: tuples of tensors, made into ``Episode``."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from metafleet.episode import Episode, ExampleSet
from metafleet.errors import DataError

Inputs: TypeAlias = Tensor | Mapping[str, Tensor]
"""[n, ...], or name -> [n, ...] for a module that takes several keyword arguments."""
PlainSupport: TypeAlias = ExampleSet | Episode | tuple[Inputs, Tensor]
"""A support set, an episode whose support set is meant, or (x, y)."""
PlainEpisode: TypeAlias = Episode | tuple[Inputs, Tensor, Inputs, Tensor]
"""An episode, or (support x, support y, query x, query y)."""

ONLY_INPUT = "x"
"""The name of an input that comes without one."""


def as_episode(given: PlainEpisode, like: Tensor) -> Episode:
    """Make an episode of what a script gives.

    Targets that are whole numbers [n] are classes 0, 1, ...: n_way is then one more than the
    support set's largest. All others are values, and n_way is 0.

    Args:
        given: see ``PlainEpisode``.
        like: where tensors go, and the precision of those with floats.

    Raises:
        DataError: it is none.
    """
    if isinstance(given, Episode):
        support, query = (_as_like(part, like) for part in (given.support, given.query))
        return Episode(support, query, given.n_way)
    if not isinstance(given, tuple | list) or len(given) != 4:
        raise DataError(
            f"an episode is {_describe(given)}; expected (support x, support y, query x, query y) "
            "or an Episode, several of them in a list"
        )
    support, query = (_examples(x, y, like) for x, y in (given[:2], given[2:]))
    return Episode(support, query, n_way_of(support))


def as_support(given: PlainSupport, like: Tensor) -> tuple[ExampleSet, int]:
    """Make a support set of what a script gives, and count its classes.

    Raises:
        DataError: it is none.
    """
    if isinstance(given, Episode):
        return _as_like(given.support, like), given.n_way
    if isinstance(given, ExampleSet):
        support = _as_like(given, like)
    elif isinstance(given, tuple | list) and len(given) == 2:
        support = _examples(*given, like)
    else:
        raise DataError(
            f"a support set is {_describe(given)}; expected (x, y), an ExampleSet or an Episode"
        )
    return support, n_way_of(support)


def as_inputs(given: Inputs, like: Tensor) -> dict[str, Tensor]:
    """Name the inputs, and move them to where ``like`` is.

    Raises:
        DataError: they are no tensors.
    """
    named = given if isinstance(given, Mapping) else {ONLY_INPUT: given}
    return {name: _tensor(value, like, what=f"input {name!r}") for name, value in named.items()}


def n_way_of(support: ExampleSet) -> int:
    """Return one more than the largest class, or 0 where targets are values."""
    targets = support.targets
    if targets.dim() != 1 or targets.is_floating_point() or len(targets) == 0:
        return 0
    lowest = int(targets.min())
    if lowest < 0:
        raise DataError(f"the support set has a class {lowest}; classes are 0, 1, ...")
    return int(targets.max()) + 1


def _examples(x: Any, y: Any, like: Tensor) -> ExampleSet:
    targets = _tensor(y, like, what="targets")
    examples = ExampleSet(as_inputs(x, like), targets)
    if len(examples) == 0:
        raise DataError("a support or query set has 0 examples; expected 1 or more")
    return examples


def _as_like(examples: ExampleSet, like: Tensor) -> ExampleSet:
    return _examples(examples.inputs, examples.targets, like)


def _tensor(value: Any, like: Tensor, *, what: str) -> Tensor:
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what}: {_describe(value)} is no tensor; expected one") from error
    if tensor.dim() == 0:
        raise DataError(f"{what}: a single number; expected a tensor [n, ...]")
    if tensor.is_floating_point():
        return tensor.to(like.device, like.dtype)
    # indices and classes; labels are often kept in bytes
    return tensor.to(like.device, torch.int64)


def _describe(value: Any) -> str:
    kind = type(value).__name__
    return f"a {kind} of {len(value)}" if isinstance(value, tuple | list) else f"a {kind}"
