"""A user's plain ``torch.nn.Module`` class by name; its constructor's arguments are the options."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from metafleet.errors import ConfigError, MetafleetError
from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.module_function import ModuleFunction
from metafleet.models.module_mode import ModuleMode
from metafleet.models.module_model import (
    PREFIX,
    ModuleModel,
    arguments,
    check_inputs,
    default_batch_norm,
)
from metafleet.models.module_survey import survey
from metafleet.options import can_convert
from metafleet.params import Params
from metafleet.problem import Problem
from metafleet.purity.process_state import kept_as_it_is, seed_generators
from metafleet.seeds import CounterRng

OUTPUT_ARGUMENTS: Final = ("n_way", "n_classes", "num_classes", "n_outputs", "out_features")
"""Constructor arguments that mean the number of outputs; the first one that exists is filled in."""

_OWN: Final = ("head", "batch_norm")
"""Options for how a module is run; ``MetaLearner`` has the same."""

_ANY_SEED: Final = 0
"""Seed of what a module makes in addition to learned parameters: buffers and constants."""


class NamedModule(ModuleModel):
    """A model made from a module class. ``model_class_of`` makes a subclass for each module class.

    Attributes:
        module_class: the user's class.
        Options: the constructor's arguments. "head" and "batch_norm" are added if the constructor
            has no arguments of these names.
    """

    module_class: ClassVar[type[nn.Module]]
    Options: ClassVar[type]
    _make: functools.partial[nn.Module]
    _mode: ModuleMode

    @classmethod
    def build(cls, options: Any, problem: Problem, n_outputs: int | None) -> Self:
        """Make the module, and run it on zeros to learn its shapes and layers.

        Raises:
            ConfigError: the module cannot be made, does not take the inputs, or gives the wrong
                number of outputs.
        """
        make = functools.partial(cls._construct, cls._arguments(options, problem, n_outputs))
        module = make(_ANY_SEED)
        function = ModuleFunction(module, head=_own_option(cls, options, "head"))
        added = {name: problem.modalities[name] for name in sorted(problem.added)}
        check_inputs(function, added)
        modalities = tuple(name for name in problem.modalities if name not in added)
        zeros = {name: torch.zeros(2, *shape) for name, shape in problem.modalities.items()}
        mode = ModuleMode(module)
        mode.follow()
        with sdpa_kernel(SDPBackend.MATH):
            found = survey(function, arguments(zeros, modalities))
        if n_outputs is not None:
            _check_width(cls.module_class, found.output_shape, n_outputs)
        norm = _own_option(cls, options, "batch_norm") or default_batch_norm(function)
        model = cls(
            function,
            found,
            modalities=modalities,
            batch_norm=norm,
            has_head=n_outputs is not None,
        )
        model._make, model._mode = make, mode
        return model

    def init_params(self, seed: int) -> Params:
        """Make a new module with ``seed``, and return its learned parameters.

        Global generators are not changed. Buffers, and parameters without ``requires_grad``, come
        from the module that ``build`` made. These tensors are equal in every process, because
        ``build`` uses a fixed seed.
        """
        learned = super().init_params(seed)
        fresh = dict(self._make(seed).named_parameters())
        return {name: fresh[name.removeprefix(PREFIX)].detach() for name in learned}

    def apply_head(self, params: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Map features to the module's outputs; see ``Model``."""
        self._mode.follow()
        return super().apply_head(params, features)

    def _run(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None,
        *,
        stops_at_head: bool = False,
    ) -> Tensor:
        self._mode.follow()
        # only this attention kernel has a differentiable backward pass
        with sdpa_kernel(SDPBackend.MATH):
            return super()._run(params, inputs, norm, modulate, stops_at_head=stops_at_head)

    @classmethod
    def _arguments(cls, options: Any, problem: Problem, n_outputs: int | None) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        taken = _parameters(cls.module_class)
        given = {name: getattr(options, name) for name in taken}
        given = {name: value for name, value in given.items() if value is not _NOT_GIVEN}
        for name, parameter in taken.items():
            if name in given and _is_list(_hints(cls.module_class).get(name)):
                given[name] = list(given[name])
            if name == _output_argument(taken) and name not in given:
                is_needed = parameter.default is parameter.empty
                if n_outputs is not None or is_needed:
                    given[name] = _some_width(problem) if n_outputs is None else n_outputs
        return given

    @classmethod
    def _construct(cls, given: Mapping[str, Any], seed: int) -> nn.Module:
        """Call the constructor; its random numbers depend only on ``seed``."""
        with kept_as_it_is():
            seed_generators(CounterRng(seed, "module"))
            try:
                return cls.module_class(**given)
            except MetafleetError:
                raise
            except Exception as error:  # a user's constructor may raise anything
                told = ", ".join(f"{name}={value!r}" for name, value in given.items())
                reason = next(iter(str(error).strip().splitlines()), "")[:200]
                raise ConfigError(
                    f"{cls.module_class.__name__}({told:.300}) cannot be made "
                    f"({type(error).__name__}: {reason}); check the model's options"
                ) from error


@functools.cache
def model_class_of(module_class: type[nn.Module]) -> type[NamedModule]:
    """Return the model class of a module class."""
    options = _options_class(module_class)
    name = module_class.__name__
    return type(name, (NamedModule,), {"module_class": module_class, "Options": options})


def find_model_class(found: Any) -> Any:
    """Return the model class of a plain module class; return anything else unchanged."""
    is_module = isinstance(found, type) and issubclass(found, nn.Module)
    if is_module and not (hasattr(found, "Options") or hasattr(found, "build")):
        return model_class_of(found)
    return found


class _NotGiven:
    def __repr__(self) -> str:
        return "not given"


_NOT_GIVEN: Final = _NotGiven()


def _options_class(module_class: type[nn.Module]) -> type:
    """Make a dataclass of a constructor's arguments; those with a default are optional fields."""
    taken, hints = _parameters(module_class), _hints(module_class)
    output = _output_argument(taken)
    required: list[Any] = []
    optional: list[Any] = []
    for name, parameter in taken.items():
        hint = _usable(hints.get(name, Any))
        if parameter.default is parameter.empty and name != output:
            required.append((name, hint))
        else:
            optional.append((name, hint, dataclasses.field(default=_NOT_GIVEN)))
    own = [
        (name, str | None, dataclasses.field(default=None)) for name in _OWN if name not in taken
    ]
    return dataclasses.make_dataclass(
        f"{module_class.__name__}Options", [*required, *optional, *own], frozen=True, kw_only=True
    )


def _parameters(module_class: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """Return the constructor's arguments that can be passed by name."""
    found = inspect.signature(module_class.__init__).parameters.values()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p for p in list(found)[1:] if p.kind in by_name}


def _hints(module_class: type[nn.Module]) -> dict[str, Any]:
    """Return the constructor's annotations; empty if they cannot be read."""
    try:
        return typing.get_type_hints(module_class.__init__)
    except Exception:  # for example, a name that is only imported for type checkers
        return {}


def _usable(hint: Any) -> Any:
    """Return a type that a JSON value can be checked against, or ``Any``."""
    if _is_list(hint) or typing.get_origin(hint) is Sequence:
        hint = tuple[(*typing.get_args(hint)[:1], ...)]  # type: ignore[misc] # a type made here
    return hint if can_convert(hint) else Any


def _is_list(hint: Any) -> bool:
    return typing.get_origin(hint) is list


def _output_argument(taken: Mapping[str, object]) -> str | None:
    return next((name for name in OUTPUT_ARGUMENTS if name in taken), None)


def _own_option(cls: type[NamedModule], options: Any, name: str) -> str | None:
    return None if name in _parameters(cls.module_class) else getattr(options, name)


def _some_width(problem: Problem) -> int:
    """Return a number of outputs for a module that embeds but requires the argument."""
    return max([problem.target_dim, *(shape.n_way for shape in problem.episodes.values())])


def _check_width(module_class: type[nn.Module], found: tuple[int, ...], n_outputs: int) -> None:
    if found != (n_outputs,):
        known = ", ".join(OUTPUT_ARGUMENTS)
        raise ConfigError(
            f"{module_class.__name__} has outputs of shape {found} for one example; expected "
            f"({n_outputs},): give its constructor one of the arguments {known}, which is filled in"
        )
