"""A wrapper that checks the user's loss."""

import warnings
from typing import Any

from torch import Tensor

from metafleet.errors import ConfigError, DataError
from metafleet.models.module_function import ModuleFunction
from metafleet.models.packing import PackedLayout
from metafleet.problem import LossFn


class CheckedLoss:
    """Checks that the loss is a scalar and, on first use, that it depends on the outputs.

    After the first use, a loss may be constant, for example if a mask excludes all elements.
    Outputs and targets that are dicts or tuples arrive packed into one tensor. This class unpacks
    them before it calls the loss.

    Args:
        loss: a function of outputs and targets that returns a scalar. It gets the outputs as the
            module returns them, and the targets as the script gives them.
        function: the module that computes the outputs.

    Attributes:
        targets: the layout of packed targets; None if targets are a tensor.
    """

    def __init__(self, loss: LossFn, function: ModuleFunction) -> None:
        self.targets: PackedLayout | None = None
        self._has_layout = False
        self._loss = loss
        self._function = function
        self._has_followed = False

    def forget_layout(self) -> None:
        """Accept the next targets in any layout."""
        self.targets, self._has_layout = None, False

    def require_layout(self, layout: PackedLayout | None) -> None:
        """Record the layout of the first targets, and reject targets of any other layout.

        Raises:
            DataError: the targets' layout differs from that of the first targets.
        """
        if self._has_layout and layout != self.targets:
            raise DataError(
                f"targets are {_shown(layout)} but the first episode's were {_shown(self.targets)}"
            )
        self.targets, self._has_layout = layout, True

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss.

        Raises:
            ConfigError: the loss is not a scalar, or it is constant on first use.
        """
        has_followed = self._has_followed
        given = outputs, targets
        value = self._value(*given) if has_followed else self._first_value(*given)
        if not isinstance(value, Tensor) or value.dim() != 0:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(
                f"the loss returns {shape}; expected a scalar tensor, such as with reduction='mean'"
            )
        if outputs.requires_grad and not has_followed:
            if not value.requires_grad:
                raise ConfigError(
                    "the loss does not depend on the module's parameters; expected one computed "
                    "from the outputs, without detach(), item(), numpy() or no_grad()"
                )
            self._has_followed = True
        return value

    def _value(self, outputs: Tensor, targets: Tensor) -> Any:
        known = targets if self.targets is None else self.targets.unpack(targets)
        return self._loss(self._function.unpacked(outputs), known)

    def _first_value(self, outputs: Tensor, targets: Tensor) -> Any:
        """Compute a loss, and turn torch's warning about target shapes into an error.

        Raises:
            ConfigError: targets and outputs differ in shape, and torch would broadcast them and
                compare each output with each target.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Using a target size", UserWarning)
            try:
                return self._value(outputs, targets)
            except UserWarning as error:
                raise ConfigError(
                    f"the loss is given outputs {tuple(outputs.shape)} and targets "
                    f"{tuple(targets.shape)}; expected targets of the outputs' shape"
                ) from error


def _shown(layout: PackedLayout | None) -> str:
    return "a tensor" if layout is None else f"{layout.spec}".replace("\n", " ")[:200]
