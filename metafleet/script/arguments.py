"""Checks of the arguments of ``MetaLearner``."""

from itertools import chain
from typing import Any

from torch import nn

from metafleet.errors import ConfigError
from metafleet.models.batch_norm import MODES
from metafleet.options import is_finite_number, require
from metafleet.seeds import MAX_SEED


def check_module(module: Any) -> None:
    """Check that the module is an instance, and that its tensors hold data.

    Raises:
        ConfigError: the argument is not a ``torch.nn.Module``, or one of its tensors is on device
            'meta'.
    """
    if isinstance(module, type):
        name = module.__name__
        raise ConfigError(f"module is the class {name}; expected an instance, such as {name}(...)")
    if not isinstance(module, nn.Module):
        raise ConfigError(f"module is {_shown(module)}; expected a torch.nn.Module")
    for name, value in chain(module.named_parameters(), module.named_buffers()):
        if value.is_meta:
            raise ConfigError(
                f"{name!r} of the module has no data, it is on device 'meta'; expected a module "
                "with values: to_empty(device=...), then load or draw them"
            )


def check_loss(loss: Any) -> None:
    """Check that the loss can be called with outputs and targets.

    Raises:
        ConfigError: the loss is a class, or it is not callable.
    """
    if isinstance(loss, type):
        name = loss.__name__
        raise ConfigError(f"loss is the class {name}; expected an instance, such as {name}()")
    if loss is not None and not callable(loss):
        raise ConfigError(
            f"loss is {_shown(loss)}; expected a function of outputs and targets, such as "
            "torch.nn.functional.mse_loss"
        )


def check_make_optimiser(make: Any) -> None:
    """Check that ``make`` is a function, rather than an optimiser or the name of one.

    Raises:
        ConfigError: ``make`` is not callable.
    """
    if make is not None and not callable(make):
        raise ConfigError(f"optimiser is {_shown(make)}; {_EXPECTED_OPTIMISER}")


def check_optimiser(made: Any) -> None:
    """Check that the optimiser, which the user's function returned, has a method ``step``.

    Raises:
        ConfigError: the returned object is a class or has no ``step`` method.
    """
    if isinstance(made, type) or not callable(getattr(made, "step", None)):
        raise ConfigError(f"optimiser returns {_shown(made)}; {_EXPECTED_OPTIMISER}")


def check_rates(*, outer_lr: Any, clip_norm: Any) -> None:
    """Check that both options are numbers in range.

    Raises:
        ConfigError: an option is not a number or is out of range; the message names the option.
    """
    for name, value in (("outer_lr", outer_lr), ("clip_norm", clip_norm)):
        require(is_finite_number(value), name, value, "a finite number")
    require(outer_lr > 0.0, "outer_lr", outer_lr, "more than 0")
    require(clip_norm >= 0.0, "clip_norm", clip_norm, "0 or more")


def check_batch_norm(mode: Any) -> None:
    """Check the batch norm mode.

    Raises:
        ConfigError: the mode is unknown; the message lists the known ones.
    """
    known = ", ".join(map(repr, MODES))
    require(mode is None or mode in MODES, "batch_norm", mode, f"one of {known}, or None")


def check_seed(seed: Any) -> None:
    """Check that the seed fits the counter-based generator.

    Raises:
        ConfigError: the seed is not an integer, or is out of range.
    """
    is_right = isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= MAX_SEED
    require(is_right, "seed", seed, "a whole number, 0 or more and less than 2**64")


def check_tasks_per_step(n_tasks: Any) -> None:
    """Check the number of tasks per outer step.

    Raises:
        ConfigError: the number is not an integer, or is less than 1.
    """
    is_right = isinstance(n_tasks, int) and not isinstance(n_tasks, bool) and n_tasks >= 1
    require(is_right, "tasks_per_step", n_tasks, "a whole number, 1 or more")


def _shown(value: Any) -> str:
    """Return the repr of a string, else the type's name: other reprs may take many lines."""
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"


_EXPECTED_OPTIMISER = (
    "expected a function of the parameters, such as lambda params: torch.optim.SGD(params, lr=0.1)"
)
