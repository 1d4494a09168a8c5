"""A loss of the user's, held to what can be learned from."""

import warnings
from typing import Any

from torch import Tensor

from metafleet.errors import ConfigError, DataError
from metafleet.models.module_function import ModuleFunction
from metafleet.models.packing import PackedLayout
from metafleet.problem import LossFn


class CheckedLoss:
    """Refuses a loss that is no scalar, or that nothing can be learned from when it is first used.

    Later it may be a constant, as one with a mask is where the mask leaves nothing. Dicts and
    tuples travel as one tensor, and are themselves again here.

    Args:
        loss: outputs and targets, as the module and the script have them -> a scalar.
        function: what the outputs come from.

    Attributes:
        targets: how targets are packed; None where they are a tensor.
    """

    def __init__(self, loss: LossFn, function: ModuleFunction) -> None:
        self.targets: PackedLayout | None = None
        self._has_layout = False
        self._loss = loss
        self._function = function
        self._has_followed = False

    def forget_layout(self) -> None:
        """Take the next targets as they come."""
        self.targets, self._has_layout = None, False

    def require_layout(self, layout: PackedLayout | None) -> None:
        """Take the layout of the first targets, and refuse targets of another.

        Raises:
            DataError: they are of another.
        """
        if self._has_layout and layout != self.targets:
            raise DataError(
                f"targets are {_shown(layout)} but the first episode's were {_shown(self.targets)}"
            )
        self.targets, self._has_layout = layout, True

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss.

        Raises:
            ConfigError: it is no scalar, or a constant.
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
        """Compute a loss, and refuse what torch's own ones but warn of.

        Raises:
            ConfigError: targets of another shape would be broadcast: each output would be held
                against each target.
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
