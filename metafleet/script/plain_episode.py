"""Conversion of a script's tuples of tensors to ``Episode``."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from metafleet.episode import Episode, ExampleSet
from metafleet.episodes.class_targets import (
    MOST_CLASSES,
    IsIgnored,
    check_classes,
    none_ignored,
)
from metafleet.errors import DataError
from metafleet.models.packing import is_structure, pack
from metafleet.script.checked_loss import CheckedLoss

Inputs: TypeAlias = Tensor | Mapping[str, Tensor]
"""[n, ...], or name -> [n, ...] for a module that takes several keyword arguments."""
Targets: TypeAlias = Tensor | Mapping[str, Any] | Sequence[Any]
"""[n, ...], or dicts and tuples of such tensors for a loss that takes them."""
PlainSupport: TypeAlias = ExampleSet | Episode | tuple[Inputs, Targets]
"""A support set, an episode (its support set is used), or (x, y)."""
PlainEpisode: TypeAlias = Episode | tuple[Inputs, Targets, Inputs, Targets]
"""An episode, or (support x, support y, query x, query y)."""

ONLY_INPUT = "x"
"""The name of an input that was given without one."""


def ignored_by(loss: Any) -> IsIgnored:
    """Return a function that finds the targets that a loss ignores.

    A loss ignores targets that are below 0 and targets that are equal to its ``ignore_index``. If
    ``loss`` is None, only the target -100 is ignored, as by torch's cross-entropy.
    """
    if loss is None:
        return lambda classes: classes == _IGNORED_BY_TORCH
    index = getattr(loss, "ignore_index", _IGNORED_BY_TORCH)
    return lambda classes: (classes < 0) | (classes == index)


def as_episode(
    given: PlainEpisode,
    like: Tensor,
    is_ignored: IsIgnored = none_ignored,
    loss: CheckedLoss | None = None,
) -> Episode:
    """Convert a script's episode to an ``Episode``.

    If targets are integers [n], they are classes 0, 1, ..., and n_way is the largest class of the
    support set plus one. All other targets are values, and n_way is 0.

    Args:
        given: the episode in one of the forms of ``PlainEpisode``.
        like: tensor that gives the device, and the precision of floating point tensors.
        is_ignored: a function that returns which targets of the support set to ignore.
        loss: the loss, which records how targets that are dicts or tuples are packed.

    Raises:
        DataError: ``given`` is not an episode.
    """
    if isinstance(given, Episode):
        support, query = (_as_like(part, like) for part in (given.support, given.query))
        check_classes(support, given.n_way, whose="support", is_ignored=is_ignored)
        return Episode(support, query, given.n_way)
    if not isinstance(given, tuple | list) or len(given) != 4:
        raise DataError(
            f"an episode is {_describe(given)}; expected (support x, support y, query x, query y) "
            "or an Episode, several of them in a list"
        )
    support, query = (_examples(x, y, like, loss) for x, y in (given[:2], given[2:]))
    return Episode(support, query, n_way_of(support, is_ignored))


def as_support(
    given: PlainSupport,
    like: Tensor,
    is_ignored: IsIgnored = none_ignored,
    loss: CheckedLoss | None = None,
) -> tuple[ExampleSet, int]:
    """Convert a script's support set, and count its classes; see ``as_episode``.

    Raises:
        DataError: ``given`` is not a support set.
    """
    if isinstance(given, Episode):
        support = _as_like(given.support, like)
        check_classes(support, given.n_way, whose="support", is_ignored=is_ignored)
        return support, given.n_way
    if isinstance(given, ExampleSet):
        support = _as_like(given, like)
    elif isinstance(given, tuple | list) and len(given) == 2:
        support = _examples(*given, like, loss)
    else:
        raise DataError(
            f"a support set is {_describe(given)}; expected (x, y), an ExampleSet or an Episode"
        )
    return support, n_way_of(support, is_ignored)


def as_inputs(given: Inputs, like: Tensor) -> dict[str, Tensor]:
    """Name the inputs, and move them to the device of ``like``.

    Raises:
        DataError: an input is not a tensor, or there are no inputs.
    """
    named = given if isinstance(given, Mapping) else {ONLY_INPUT: given}
    if not named or not all(isinstance(name, str) for name in named):
        raise DataError(f"inputs are named {list(named)}; expected one name or more, each a text")
    return {name: _tensor(value, like, what=f"input {name!r}") for name, value in named.items()}


def n_way_of(support: ExampleSet, is_ignored: IsIgnored = none_ignored) -> int:
    """Return one more than the largest class, or 0 if targets are values."""
    targets = support.targets
    if targets.dim() != 1 or targets.is_floating_point() or len(targets) == 0:
        return 0
    targets = targets[~is_ignored(targets)]
    if len(targets) == 0:
        raise DataError("the loss leaves out every example of the support set; expected some")
    lowest, highest = (int(value) for value in targets.aminmax())
    if lowest < 0 or highest >= MOST_CLASSES:
        raise DataError(
            f"the support set has a class {lowest if lowest < 0 else highest}; classes are 0, 1, "
            f"... within an episode, and less than {MOST_CLASSES}"
        )
    return highest + 1


_IGNORED_BY_TORCH = -100
_LARGEST_EXACT = 2**53
"""Double precision cannot represent every integer above this."""


def _examples(x: Any, y: Any, like: Tensor, loss: CheckedLoss | None = None) -> ExampleSet:
    if is_structure(y):
        inputs = as_inputs(x, like)
        targets = _packed(y, len(next(iter(inputs.values()))), like, loss)
    else:
        targets = _tensor(y, like, what="targets")
        inputs = as_inputs(x, like)
        if loss is not None:
            loss.require_layout(None)
    examples = ExampleSet(inputs, targets)
    if len(examples) == 0:
        raise DataError("a support or query set has 0 examples; expected 1 or more")
    return examples


def _packed(y: Any, n: int, like: Tensor, loss: CheckedLoss | None) -> Tensor:
    """Pack a dict or tuple of targets into one double precision tensor, which holds classes."""
    if loss is None:
        raise DataError(
            f"targets are {_describe(y)}; expected a tensor, or a loss of yours for them"
        )
    alike = tree_map(lambda leaf: _tensor(leaf, like, what="targets", may_be_number=True), y)
    packed, layout = pack(alike, n=n, what="targets", dtype=torch.float64)
    if bool((packed.abs() > _LARGEST_EXACT).any()):
        raise DataError("targets have a number beyond 2**53; expected smaller ones")
    loss.require_layout(layout)
    return packed


def _as_like(examples: ExampleSet, like: Tensor) -> ExampleSet:
    return _examples(examples.inputs, examples.targets, like)


def _tensor(value: Any, like: Tensor, *, what: str, may_be_number: bool = False) -> Tensor:
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what}: {_describe(value)} is no tensor; expected one") from error
    if tensor.dim() == 0 and not may_be_number:
        raise DataError(f"{what}: a single number; expected a tensor [n, ...]")
    if tensor.is_complex() or tensor.is_meta:
        kind = "of complex numbers" if tensor.is_complex() else "without data, on device 'meta'"
        raise DataError(f"{what}: a tensor {kind}; expected real numbers")
    # integers are indices or classes; labels are often stored as bytes
    dtype = like.dtype if tensor.is_floating_point() else torch.int64
    return tensor.to(like.device, dtype)


def _describe(value: Any) -> str:
    kind = type(value).__name__
    return f"a {kind} of {len(value)}" if isinstance(value, tuple | list) else f"a {kind}"
