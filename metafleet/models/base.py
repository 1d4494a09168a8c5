"""What a model is: a function of named parameters, and how to draw the first ones."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from metafleet.models.batch_norm import Normalise
from metafleet.params import Params
from metafleet.problem import Problem


class Model(Protocol):
    """A stateless network: parameters come in with every call, and none are kept.

    Attributes:
        batch_norm: one of ``batch_norm.MODES``; "none" for a model without batch norm.
    """

    @property
    def batch_norm(self) -> str:
        """How batch norm gets its statistics."""
        ...

    def init_params(self, seed: int) -> Params:
        """Draw parameters; the same seed gives the same bits and no global generator moves."""
        ...

    def init_buffers(self) -> Params:
        """Return running statistics before any training; empty unless batch_norm is "running"."""
        ...

    def forward(
        self, params: Mapping[str, Tensor], inputs: Mapping[str, Tensor], norm: Normalise
    ) -> Tensor:
        """Map inputs, modality -> [n, ...], to outputs [n, n_outputs] or embeddings [n, d]."""
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


ModelFactory = Callable[[int | None], Model]
"""Number of outputs, or None for an embedding -> model."""
