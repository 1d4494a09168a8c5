"""What a model is: a function of named parameters, and how to draw the first ones."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from metafleet.models.batch_norm import Normalise
from metafleet.params import Params
from metafleet.problem import Problem

Modulate = Callable[[str, Tensor], Tensor]
"""Layer, its activations [n, c, ...] before the non-linearity -> what goes on in their place."""


class Model(Protocol):
    """A stateless network: parameters come in with every call, and none are kept."""

    @property
    def batch_norm(self) -> str:
        """One of ``batch_norm.MODES``; "none" for a model without batch norm."""
        ...

    @property
    def head(self) -> frozenset[str]:
        """Names of the output layer's parameters, empty without one; all others are the body."""
        ...

    @property
    def layers(self) -> Mapping[str, int]:
        """Hidden layer -> its channels, in order: what ``Modulate`` is called for."""
        ...

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of one example's ``features`` before they are flattened, such as (c, h, w)."""
        ...

    def init_params(self, seed: int) -> Params:
        """Draw parameters; the same seed gives the same bits and no global generator moves."""
        ...

    def init_buffers(self) -> Params:
        """Return running statistics before any training; empty for modes that keep none."""
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
        """Map inputs to what the head acts on, [n, d]; the embedding itself without a head."""
        ...

    def apply_head(self, params: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Map ``features`` to outputs [n, n_outputs]; ``forward`` is this after that."""
        ...


class ModelClass(Model, Protocol):
    """What the registry holds: options, and a way to build from them."""

    Options: ClassVar[type]

    @classmethod
    def build(cls, options: Any, problem: Problem, n_outputs: int | None) -> Self:
        """Fit the model to the data; without ``n_outputs`` it has no head and embeds.

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
        """Build it with a head of so many outputs, or without one.

        Args:
            n_outputs: outputs; None for an embedding.
            extra_inputs: modality -> shape of one example, for what the learner will put among the
                inputs besides the data's modalities.

        Raises:
            ConfigError: the options do not fit.
        """
        ...
