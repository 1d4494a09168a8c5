"""Whether modules of the user run in meta-training, with dropout, or are judged, without."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import nn

_is_meta_training: ContextVar[bool] = ContextVar("is_meta_training", default=False)


@contextmanager
def meta_training() -> Iterator[None]:
    """Let modules that run in this thread be in the modes they were made with."""
    token = _is_meta_training.set(True)
    try:
        yield
    finally:
        _is_meta_training.reset(token)


class ModuleMode:
    """Switches a module's submodules between the modes they were made with and evaluation.

    Args:
        module: as it was made.
    """

    def __init__(self, module: nn.Module) -> None:
        self._own = [(layer, layer.training) for layer in module.modules()]
        self._is_training = True

    def follow(self) -> None:
        """Switch to what is asked for just now, outside ``meta_training`` to evaluation."""
        wanted = _is_meta_training.get()
        if wanted != self._is_training:
            for layer, mode in self._own:
                layer.training = mode and wanted
            self._is_training = wanted
