"""The models there are, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from metafleet.models.base import Model, ModelClass, ModelFactory
from metafleet.models.conv4 import Conv4
from metafleet.models.mlp import Mlp
from metafleet.options import parse_options
from metafleet.plugins import find_class
from metafleet.problem import Problem

MODELS: dict[str, type[ModelClass]] = {"conv4": Conv4, "mlp": Mlp}


def model_options(
    options: Mapping[str, Any], *, allowed_packages: Sequence[str] = ()
) -> tuple[type[ModelClass], Any]:
    """Return the class that ``options["name"]`` chooses and its checked options.

    Raises:
        ConfigError: the name or an option is unknown, of another type, or out of range.
    """
    name = options.get("name")
    found = find_class(name, MODELS, kind="model", allowed_packages=allowed_packages)
    return found, parse_options(found.Options, options, where=f"model {name!r}")


def model_factory(
    options: Mapping[str, Any], problem: Problem, *, allowed_packages: Sequence[str] = ()
) -> ModelFactory:
    """Check ``options`` and return what builds the model with or without a head.

    Raises:
        ConfigError: an option is wrong; the factory raises it where it does not fit ``problem``.
    """
    found, parsed = model_options(options, allowed_packages=allowed_packages)

    def make_model(n_outputs: int | None) -> Model:
        return found.build(parsed, problem, n_outputs)

    return make_model
