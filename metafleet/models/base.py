"""The model protocol: a function of named parameters, and how to draw their initial values."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from metafleet.models.batch_norm import Normalise
from metafleet.params import Params
from metafleet.problem import Problem

Modulate = Callable[[str, Tensor], Tensor]
"""Layer, its activations [n, c, ...] before the non-linearity -> activations to replace them."""


class Model(Protocol):
    """A stateless network: every call gets the parameters, and none are stored."""

    @property
    def batch_norm(self) -> str:
        """One of ``batch_norm.MODES``; "none" for a model without batch norm."""
        ...

    @property
    def head(self) -> frozenset[str]:
        """Names of the output layer's parameters, empty without a head; all others are the body."""
        ...

    @property
    def layers(self) -> Mapping[str, int]:
        """Hidden layer -> number of channels, in order; ``Modulate`` is called for these layers."""
        ...

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of one example's ``features`` before flattening, for example (c, h, w)."""
        ...

    def init_params(self, seed: int) -> Params:
        """Draw parameters; the same seed gives the same bits. No global generator is used."""
        ...

    def init_buffers(self) -> Params:
        """Return the initial running statistics; empty for modes that keep none."""
        ...

    def forward(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs, modality -> [n, ...], to outputs [n, n_outputs] or embeddings [n, d]."""
        ...

    def features(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs to the features that the head takes, [n, d]; without a head, the embedding."""
        ...

    def apply_head(self, params: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Map features to outputs [n, n_outputs]; ``forward`` is ``features``, then this."""
        ...


class ModelClass(Model, Protocol):
    """A model class as the registry holds it: its options, and how to build it from them."""

    Options: ClassVar[type]

    @classmethod
    def build(cls, options: Any, problem: Problem, n_outputs: int | None) -> Self:
        """Make a model that fits the data. It has no head if ``n_outputs`` is None.

        Raises:
            ConfigError: the options do not fit the data.
        """
        ...


class ModelFactory(Protocol):
    """Builds the configured model."""

    def __call__(
        self,
        n_outputs: int | None,
        /,
        *,
        extra_inputs: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Model:
        """Build the model with a head of ``n_outputs`` outputs, or without a head.

        Args:
            n_outputs: number of outputs; None for an embedding.
            extra_inputs: modality -> shape of one example, for inputs that the learner adds to the
                data's modalities.

        Raises:
            ConfigError: the options do not fit the data.
        """
        ...
