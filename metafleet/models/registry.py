"""The models there are, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from metafleet.models.base import Model, ModelClass, ModelFactory
from metafleet.models.conv4 import Conv4
from metafleet.models.mlp import Mlp
from metafleet.models.raw_features import RawFeatures
from metafleet.problem import Problem
from metafleet.registry import Registry

MODELS: Registry[type[ModelClass]] = Registry(
    "model", {"conv4": Conv4, "mlp": Mlp, "raw": RawFeatures}
)


def model_factory(
    options: Mapping[str, Any], problem: Problem, *, allowed_packages: Sequence[str] = ()
) -> ModelFactory:
    """Check ``options`` and return what builds the model with or without a head.

    Raises:
        ConfigError: an option is wrong; the factory raises it where it does not fit ``problem``.
    """
    found, parsed = MODELS.resolve(options, allowed_packages=allowed_packages)

    def make_model(
        n_outputs: int | None, /, *, extra_inputs: Mapping[str, tuple[int, ...]] | None = None
    ) -> Model:
        seen = problem if extra_inputs is None else problem.with_inputs(extra_inputs)
        return found.build(parsed, seen, n_outputs)

    return make_model
