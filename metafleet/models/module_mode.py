"""Switch user modules between meta-training (with dropout) and evaluation (without)."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import nn

_is_meta_training: ContextVar[bool] = ContextVar("is_meta_training", default=False)


@contextmanager
def meta_training() -> Iterator[None]:
    """Run the modules of this thread in the modes they were created in."""
    token = _is_meta_training.set(True)
    try:
        yield
    finally:
        _is_meta_training.reset(token)


class ModuleMode:
    """Switches submodules between evaluation mode and the modes in which they were created.

    Args:
        module: the module; its submodules must still be in the modes they were created in.
    """

    def __init__(self, module: nn.Module) -> None:
        self._own = [(layer, layer.training) for layer in module.modules()]
        self._is_training = True

    def follow(self) -> None:
        """Switch to the original modes inside ``meta_training``, and to evaluation outside."""
        wanted = _is_meta_training.get()
        if wanted != self._is_training:
            for layer, mode in self._own:
                layer.training = mode and wanted
            self._is_training = wanted
