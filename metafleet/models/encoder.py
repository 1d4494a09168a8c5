"""The base of networks that read one modality."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.models.base import Modulate
from metafleet.models.batch_norm import MODES, Normalise, initial_buffers
from metafleet.models.headed import HeadedModel
from metafleet.options import name_of, require, require_layers
from metafleet.params import Params
from metafleet.problem import Problem

OptionsT = TypeVar("OptionsT")
HEAD_INDEX = 900
"""Index of the head's tensors among the initial values; larger than that of any body tensor."""


def read_modality(options: Any, problem: Problem) -> str:
    """Return the modality that a network reads.

    Args:
        options: the network's options. If ``options.modality`` is "", the network reads the only
            modality of the data. If the data then have several modalities, the network reads
            "text".
        problem: the shapes of the data.
    """
    if options.modality:
        return str(options.modality)
    names = tuple(problem.modalities)
    return names[0] if len(names) == 1 else "text"


class Encoder(HeadedModel, Generic[OptionsT]):
    """A network for one modality, with an optional linear head.

    A subclass implements ``layers``, ``feature_shape``, ``init_body`` and ``body``. Its options
    have the field ``modality``. If the network has batch norm, its options also have the field
    ``batch_norm``. With a head, the outputs are [n, n_outputs]. Without a head, the outputs are the
    features [n, d].

    Attributes:
        Options: the options, a frozen dataclass.
        shapes: the shapes that the network can read: number of axes of one example -> names of
            these axes.
        reads_bytes: what the network reads from examples of one axis: True for the bytes of a text,
            False for features, None for both.

    Args:
        options: an instance of ``Options``.
        shape: shape of one example.
        n_outputs: outputs of the head; None for no head.
    """

    Options: ClassVar[type]
    shapes: ClassVar[Mapping[int, str]]
    reads_bytes: ClassVar[bool | None] = None

    def __init__(self, options: OptionsT, *, shape: tuple[int, ...], n_outputs: int | None) -> None:
        super().__init__(n_outputs)
        self.options = options
        self.shape = shape

    @classmethod
    def build(cls, options: OptionsT, problem: Problem, n_outputs: int | None) -> Self:
        """Make a network that fits its modality.

        Raises:
            ConfigError: the data lack the modality, its examples have another shape, or the network
                reads features but the examples are bytes of a text, or vice versa.
        """
        modality = read_modality(options, problem)
        shape = problem.modalities.get(modality)
        if shape is None:
            known = ", ".join(map(repr, sorted(problem.modalities)))
            raise ConfigError(
                f"modality={modality!r}; the data have {known}; set the model's modality to one "
                "of these"
            )
        if len(shape) not in cls.shapes:
            expected = " or ".join(cls.shapes.values())
            raise ConfigError(
                f"modality={modality!r} has examples of shape {shape}; model {name_of(cls)!r} "
                f"expects {expected}"
            )
        cls._check_text(modality, shape, is_text=modality in problem.texts)
        named: Any = options
        return cls(replace(named, modality=modality), shape=shape, n_outputs=n_outputs)

    @classmethod
    def _check_text(cls, modality: str, shape: tuple[int, ...], *, is_text: bool) -> None:
        """Check that the network gets bytes or features as it expects; both have one axis."""
        if len(shape) != 1 or cls.reads_bytes in (None, is_text):
            return
        if is_text:
            raise ConfigError(
                f"modality={modality!r} is bytes of a text, but model {name_of(cls)!r} reads "
                'features; set data.encoder = "minilm" (of a folder, data.text.encoder), or choose '
                "a model that reads bytes, such as 'ngram_bag'"
            )
        raise ConfigError(
            f"modality={modality!r} is {shape[0]} numbers, no bytes of a text, which model "
            f"{name_of(cls)!r} reads; choose 'adapter' or 'mlp', or set data.encoder = \"bytes\" "
            "where they are features of a text"
        )

    # methods that a subclass implements

    @property
    @abstractmethod
    def layers(self) -> Mapping[str, int]:
        """Hidden layer -> number of channels; batch norm and ``modulate`` are called for these."""

    @abstractmethod
    def init_body(self, seed: int) -> Params:
        """Draw all parameters except the head's; there must be fewer than 900 tensors."""

    @abstractmethod
    def body(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map examples [n, *shape] to features [n, d]."""

    # the rest of ``Model``

    @property
    def modality(self) -> str:
        """The modality that the network reads."""
        found: str = getattr(self.options, "modality")  # noqa: B009 - a field of every Options
        return found

    @property
    def batch_norm(self) -> str:
        """The batch norm mode; "none" without batch norm."""
        mode: str = getattr(self.options, "batch_norm", "none")
        return mode

    @property
    def head_index(self) -> int:
        """Index of the head's tensors among the initial values."""
        return HEAD_INDEX

    def init_params(self, seed: int) -> Params:
        """Draw the parameters of body and head."""
        return self.init_body(seed) | self.init_head(seed, self.head_index)

    def init_buffers(self) -> Params:
        """Return running means of 0 and variances of 1 if the batch norm mode keeps averages."""
        return initial_buffers(self.batch_norm, self.layers)

    def features(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs to features [n, d]."""
        return self.body(params, inputs[self.modality], norm, modulate)


def require_counts(options: Any, *names: str) -> None:
    """Check that counts are 1 or more, blocks are not too many, and the batch norm mode is known.

    Raises:
        ConfigError: an option is wrong; the message names it.
    """
    for name in names:
        value = getattr(options, name)
        require(value >= 1, name, value, "1 or more")
        if name == "n_blocks":
            require_layers(name, value)
    if any(field.name == "batch_norm" for field in fields(options)):
        mode = options.batch_norm
        require(mode in MODES, "batch_norm", mode, f"one of {', '.join(map(repr, MODES))}")


def require_pooling(sizes: Sequence[int], *, n_blocks: int) -> None:
    """Check that ``n_blocks`` poolings by 2 leave at least one position along each axis.

    Raises:
        ConfigError: an axis is too short; the message gives the sizes.
    """
    least = 2**n_blocks
    if min(sizes) < least:
        shown = "x".join(map(str, sizes))
        raise ConfigError(
            f"{n_blocks} blocks halve {shown} so often that it vanishes; expected "
            f"{'x'.join([str(least)] * len(sizes))} or more, or fewer blocks"
        )
