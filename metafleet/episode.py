"""The few-shot problem: an episode with its support and its query set."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from torch import Tensor

from metafleet.errors import DataError
from metafleet.params import Params, named, parted
from metafleet.splits import META_TEST, META_TRAIN, META_VAL, SPLITS

__all__ = [
    "CLASS_TEXT",
    "CLASS_TEXT_BYTES",
    "META_TEST",
    "META_TRAIN",
    "META_VAL",
    "SPLITS",
    "Episode",
    "EpisodeShape",
    "ExampleSet",
    "alike",
    "completed",
    "is_kept_support",
    "is_modality_name",
    "is_presence_key",
    "keep_support",
    "kept_support",
    "presence_key",
]

CLASS_TEXT = "class_text"
"""The modality of class names: features of a pretrained encoder, or UTF-8 bytes as numbers.

Bytes are padded to ``CLASS_TEXT_BYTES``.
"""
CLASS_TEXT_BYTES = 64
_INPUTS = "support"
_TARGETS = "targets"


def is_modality_name(name: str) -> bool:
    """Return whether a modality of data may have this name: any identifier but ``CLASS_TEXT``."""
    return name.isidentifier() and name != CLASS_TEXT


def presence_key(modality: str) -> str:
    """Return the name of the input that marks which examples have ``modality``.

    The input is float [n]: 1 for an example that has the modality, 0 for an example that lacks it.
    If the set of examples does not have this input, all examples have the modality. An example that
    lacks the modality has zeros as the modality's values.
    """
    return f"{modality}.present"


def is_presence_key(name: str) -> bool:
    """Return whether an input's name is a ``presence_key``, not a modality."""
    return name.endswith(".present")


@dataclass(frozen=True, slots=True)
class ExampleSet:
    """Examples with their targets.

    Attributes:
        inputs: name -> float tensor [n, ...], with the same n for all. A name is a modality, or the
            ``presence_key`` of a modality that some examples may lack.
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

    def rows(self, chosen: Tensor) -> "ExampleSet":
        """Return some of the examples, given a mask, bool [n], or their indices, int64 [m]."""
        inputs = {name: values[chosen] for name, values in self.inputs.items()}
        return ExampleSet(inputs, self.targets[chosen])


@dataclass(frozen=True, slots=True)
class Episode:
    """One few-shot problem: adapt on ``support``, evaluate on ``query``.

    Attributes:
        support: k_shot examples of each class, ordered by class; in regression, the support points.
        query: n_query examples of each class, ordered by class; in regression, the query points.
        n_way: number of classes; 0 for regression.
        step: outer step of the episode, for learners whose behaviour depends on the outer step.
        seed: seed for the learner's random draws, in [0, 2**64).
    """

    support: ExampleSet
    query: ExampleSet
    n_way: int
    step: int = 0
    seed: int = 0

    @property
    def is_regression(self) -> bool:
        """Whether targets are real values, not classes."""
        return self.n_way == 0


@dataclass(frozen=True, slots=True)
class EpisodeShape:
    """The size of an episode, and the modalities that its examples show.

    An episode is *ordinary* if all fields after ``n_query`` have their defaults.

    Attributes:
        n_way: classes in an episode, >= 2; 0 for regression.
        k_shot: support examples of each class (support points for regression), >= 1.
        n_query: query examples of each class (query points for regression), >= 1.
        shots: "even" gives each class k_shot support examples. "uneven" distributes n_way * k_shot
            support examples over the classes at random, at least one each.
        missing_rate: probability, in [0, 1), that an example loses a modality. Every example keeps
            at least one modality. In meta-training, this is known as modality dropout.
        support_modalities: modalities that support examples show; empty for all.
        query_modalities: modalities that query examples show; empty for all.
        class_text: whether each support example also has the name of its class, as the modality
            ``CLASS_TEXT``.
        parts: names of those parts of a mixture of data sets from which episodes are drawn; empty
            for all parts.
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
        """Whether only the size is given."""
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
    """Return the support set that ``keep_support`` stored."""
    return ExampleSet(parted(memory, _INPUTS), memory[_TARGETS])


def is_kept_support(memory: Mapping[str, Tensor]) -> bool:
    """Return whether the tensors include a support set of ``keep_support``."""
    return _TARGETS in memory


def alike(
    support: ExampleSet, inputs: Mapping[str, Tensor]
) -> tuple[ExampleSet, Mapping[str, Tensor]]:
    """Give two sets of examples the same inputs, so that they can form one batch.

    If only one set has a modality, the other set gets zeros for it, with a mask of zeros. If a set
    has a modality without a mask, all of its examples have the modality.
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
    """Return inputs with zeros for missing modalities, and with masks of presence.

    Args:
        given: modality or mask -> [n, ...]. The mapping is not changed.
        shapes: required modality -> shape of one example.
        masks: names of the required masks of presence.
    """
    like = next(iter(given.values()))
    n = like.shape[0]
    held = {presence_key(name) for name in given}
    zeros = {name: like.new_zeros(n, *shapes[name]) for name in shapes if name not in given}
    said = {m: like.new_full((n,), float(m in held)) for m in sorted(masks - given.keys())}
    return {**given, **zeros, **said}
