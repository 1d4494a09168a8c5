"""A support set as named tensors, and two sets of inputs made alike."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from metafleet.episode import ExampleSet, is_presence_key, presence_key
from metafleet.params import Params, named, parted

_INPUTS = "support"
_TARGETS = "targets"


def keep_support(support: ExampleSet) -> Params:
    """Return a support set as tensors: "support.<input>" and "targets"."""
    return named(_INPUTS, support.inputs) | {_TARGETS: support.targets}


def kept_support(memory: Mapping[str, Tensor]) -> ExampleSet:
    """Undo ``keep_support``."""
    return ExampleSet(parted(memory, _INPUTS), memory[_TARGETS])


def is_kept_support(memory: Mapping[str, Tensor]) -> bool:
    """Tell whether tensors are, or hold, what ``keep_support`` returned."""
    return _TARGETS in memory


def alike(
    support: ExampleSet, inputs: Mapping[str, Tensor]
) -> tuple[ExampleSet, Mapping[str, Tensor]]:
    """Give both sets the same inputs, so that they can be one batch.

    A modality that one of them alone holds is zeros in the other, with a mask of zeros. Examples
    of which nothing is said have the modalities that their set holds.
    """
    shapes = {
        name: tuple(values.shape[1:])
        for name, values in (*support.inputs.items(), *inputs.items())
        if not is_presence_key(name)
    }
    masks = {name for name in (*support.inputs, *inputs) if is_presence_key(name)}
    masks |= {presence_key(n) for n in shapes if (n in support.inputs) != (n in inputs)}
    first, second = (completed(given, shapes, masks) for given in (support.inputs, inputs))
    return ExampleSet(first, support.targets), second


def completed(
    given: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]], masks: set[str]
) -> dict[str, Tensor]:
    """Return inputs with zeros for modalities that they lack, and masks that say who has what.

    Args:
        given: modality or mask -> [n, ...]; not changed.
        shapes: modality -> shape of one example, of those that must be there.
        masks: names of those that must be there.
    """
    like = next(iter(given.values()))
    n = like.shape[0]
    held = {presence_key(name) for name in given}
    zeros = {name: like.new_zeros(n, *shapes[name]) for name in shapes if name not in given}
    said = {m: like.new_full((n,), float(m in held)) for m in sorted(masks - given.keys())}
    return {**given, **zeros, **said}
