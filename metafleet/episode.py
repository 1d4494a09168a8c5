"""The few-shot problem: an episode with its support and its query set."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from torch import Tensor

from metafleet.errors import DataError
from metafleet.params import Params, named, parted

META_TRAIN = "meta_train"
META_VAL = "meta_val"
META_TEST = "meta_test"
SPLITS = (META_TRAIN, META_VAL, META_TEST)
CLASS_TEXT = "class_text"
"""The modality of class names: bytes of UTF-8 as numbers, padded with zeros to this length:"""
CLASS_TEXT_BYTES = 64
_INPUTS = "support"
_TARGETS = "targets"


def is_modality_name(name: str) -> bool:
    """Tell what a modality of data may be called: an identifier, but not ``CLASS_TEXT``."""
    return name.isidentifier() and name != CLASS_TEXT


def presence_key(modality: str) -> str:
    """Name the input that says which examples have ``modality``: float [n], 1 or 0.

    Where it is not among the inputs, all examples have the modality. Inputs of those that lack it
    are zeros.
    """
    return f"{modality}.present"


def is_presence_key(name: str) -> bool:
    """Tell the name of such an input from that of a modality."""
    return name.endswith(".present")


@dataclass(frozen=True, slots=True)
class ExampleSet:
    """Examples with their targets.

    Attributes:
        inputs: modality name -> float tensor [n, ...], and the ``presence_key`` of modalities that
            some examples may lack; all have the same n.
        targets: [n] int64 in [0, n_way) for classification, [n, d] float for regression.
    """

    inputs: Mapping[str, Tensor]
    targets: Tensor

    def __post_init__(self) -> None:
        for modality, values in self.inputs.items():
            if values.shape[0] != self.targets.shape[0]:
                raise DataError(
                    f"modality {modality!r} has {values.shape[0]} examples but there are "
                    f"{self.targets.shape[0]} targets; every modality needs one row per target"
                )

    def __len__(self) -> int:
        return int(self.targets.shape[0])


@dataclass(frozen=True, slots=True)
class Episode:
    """One few-shot problem: adapt on ``support``, be judged on ``query``.

    Attributes:
        support: k_shot examples of each class (ordered by class), or the support points.
        query: n_query examples of each class (ordered by class), or the query points.
        n_way: number of classes; 0 for regression.
        step: outer step it is for, where a learner does not do the same in each.
        seed: of whatever a learner draws for it, in [0, 2**64).
    """

    support: ExampleSet
    query: ExampleSet
    n_way: int
    step: int = 0
    seed: int = 0

    @property
    def is_regression(self) -> bool:
        """True when targets are real values, not classes."""
        return self.n_way == 0


@dataclass(frozen=True, slots=True)
class EpisodeShape:
    """What an episode is made of: its size, and for data of several modalities what it shows.

    An episode without any of the fields after ``n_query`` is *ordinary*.

    Attributes:
        n_way: classes in an episode, >= 2; 0 for regression.
        k_shot: support examples of each class (support points for regression), >= 1.
        n_query: query examples of each class (query points for regression), >= 1.
        shots: "even", or "uneven": the n_way * k_shot support examples are spread over the classes
            at random, at least one each.
        missing_rate: share of its modalities that each example loses at random, in [0, 1); one
            always stays. In meta-training this is modality dropout.
        support_modalities: what support examples show; empty: everything.
        query_modalities: what query examples show; empty: everything.
        class_text: support examples come with their class's name, as modality ``CLASS_TEXT``.
        parts: which parts of a mixture of data sets episodes come from; empty: all.
    """

    n_way: int
    k_shot: int
    n_query: int
    shots: Literal["even", "uneven"] = "even"
    missing_rate: float = 0.0
    support_modalities: tuple[str, ...] = ()
    query_modalities: tuple[str, ...] = ()
    class_text: bool = False
    parts: tuple[str, ...] = ()

    @property
    def is_ordinary(self) -> bool:
        """True when only its size is given."""
        return not self.special()

    def special(self) -> dict[str, Any]:
        """Return the fields after ``n_query`` that are not at their defaults."""
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
            and field.default is not MISSING
        }


def keep_support(support: ExampleSet) -> Params:
    """Return a support set as tensors: "support.<input>" and "targets"."""
    return named(_INPUTS, support.inputs) | {_TARGETS: support.targets}


def kept_support(memory: Mapping[str, Tensor]) -> ExampleSet:
    """Undo ``keep_support``."""
    return ExampleSet(parted(memory, _INPUTS), memory[_TARGETS])


def is_kept_support(memory: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are, or hold, what ``keep_support`` returned."""
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
