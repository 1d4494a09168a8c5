"""Run a module once to find its layers and the shapes of its features and outputs."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from metafleet.errors import ConfigError, MetafleetError
from metafleet.models.module_function import Call, ModuleFunction

_LAYERS = (nn.Linear, _ConvNd, _BatchNorm)


@dataclass(frozen=True, slots=True)
class Survey:
    """The shapes of a module for given inputs.

    Attributes:
        output_shape: shape of one example's outputs.
        feature_shape: shape of the head's input for one example. If there is no head, this is the
            output shape.
        layers: layer -> its number of channels, in the order in which the layers run. The layers
            are the linear, convolutional and batch norm layers outside the head. A layer directly
            before a batch norm layer is omitted.
        repeated_norms: batch norm layers that run more than once in a forward pass.
    """

    output_shape: tuple[int, ...]
    feature_shape: tuple[int, ...]
    layers: Mapping[str, int]
    repeated_norms: tuple[str, ...]


UNSEEN = Survey((), (), {}, ())
"""The survey of a module that was not run."""


def survey(function: ModuleFunction, call: Call) -> Survey:
    """Run the module once, in evaluation mode, and return its shapes.

    Raises:
        ConfigError: the module is lazy and was never run, its outputs do not depend on its
            parameters, or the head is not its last layer.
    """
    module = function.module
    if any(map(is_lazy, module.parameters())):
        raise ConfigError("the module has lazy parameters; run it once on an example before")
    ran: list[tuple[str, tuple[int, ...]]] = []
    head_name = function.head_name

    def note(name: str, layer: nn.Module, args: Any, output: Any) -> None:
        ran.append((name, tuple(output.shape)))

    with ExitStack() as stack, torch.enable_grad():
        for name, layer in module.named_modules():
            in_head = head_name is not None and f"{name}.".startswith(f"{head_name}.")
            if isinstance(layer, _LAYERS) and not in_head:
                handle = layer.register_forward_hook(partial(note, name))
                stack.callback(handle.remove)
        of_head: list[Any] = []
        if function.head is not None:
            handle = function.head.register_forward_hook(lambda _, args, out: of_head.append(out))
            stack.callback(handle.remove)
        outputs = run_once(function, call)
    _require_dependent(module, outputs)
    with torch.no_grad():
        features = outputs
        if function.head is not None:
            # check this first: operations after the head may not accept the head's input
            _require_last(function, of_head[-1] if of_head else None, outputs)
            features = function({}, call, _as_it_is, stops_at_head=True)
            params = dict(function.module.named_parameters())
            _require_last(function, function.apply_head(params, features), outputs)
    norms = [name for name, _ in ran if name in function.norms]
    return Survey(
        output_shape=tuple(outputs.shape[1:]),
        feature_shape=tuple(features.shape[1:]),
        layers=_modulated(ran, function),
        repeated_norms=tuple(sorted({name for name in norms if norms.count(name) > 1})),
    )


def run_once(function: ModuleFunction, call: Call) -> Tensor:
    """Run the module with its own parameters and without batch norm.

    Raises:
        ConfigError: the module does not take inputs of these shapes, or does not return a tensor.
    """
    try:
        return function({}, call, _as_it_is)
    except MetafleetError:
        raise
    except Exception as error:  # a user's module may raise anything
        args, named = call
        shapes = [str(tuple(value.shape[1:])) for value in args]
        shapes += [f"{name}={tuple(value.shape[1:])}" for name, value in named.items()]
        reason = next(iter(str(error).strip().splitlines()), "")[:200]
        raise ConfigError(
            f"the module cannot be run on examples of shape {', '.join(shapes)} "
            f"({type(error).__name__}: {reason}); expected inputs that it takes"
        ) from error


def _require_dependent(module: nn.Module, outputs: Tensor) -> None:
    """Check that the outputs depend on the parameters; otherwise nothing can be learned."""
    is_learning = any(value.requires_grad for value in module.parameters())
    if is_learning and not outputs.requires_grad and not outputs.is_inference():
        raise ConfigError(
            "the module's outputs do not depend on its parameters; expected outputs computed from "
            "them, without detach(), item(), numpy() or no_grad()"
        )


def _require_last(function: ModuleFunction, of_head: Any, outputs: Tensor) -> None:
    if not isinstance(of_head, Tensor) or not torch.equal(of_head, outputs):
        raise ConfigError(
            f"head={function.head_name!r} is not the last thing the module computes; expected "
            "outputs that are the head's, without an activation or a reshape after it"
        )


def _modulated(ran: list[tuple[str, tuple[int, ...]]], function: ModuleFunction) -> dict[str, int]:
    """Return the layers to modulate; batch norm after a layer would undo its modulation."""
    norms = function.norms
    followed = {
        name for (name, _), (after, _) in pairwise(ran) if after in norms and name not in norms
    }
    found: dict[str, int] = {}
    for name, shape in ran:
        is_linear = isinstance(function.module.get_submodule(name), nn.Linear)
        # channels are dimension 1; linear layers over sequences have them elsewhere
        if name not in followed and not (is_linear and len(shape) != 2):
            found[name] = shape[1]
    return found


def _as_it_is(
    layer: str, x: Tensor, scale: Tensor, shift: Tensor, /, *, seen: Tensor | None = None
) -> Tensor:
    return x
