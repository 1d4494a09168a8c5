"""What surrounds a user's module while a learner runs it."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from metafleet.purity.generators import Generators

ItemT = TypeVar("ItemT")


class Turns:
    """Global generators are the script's own while it makes episodes, and ours otherwise.

    Args:
        generators: those of torch, NumPy and Python.
    """

    def __init__(self, generators: Generators) -> None:
        self.generators = generators
        self._scripts = generators.capture()

    def each(self, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """Pass on what the script makes, with its generators where they were when it last did."""
        if isinstance(items, list | tuple):
            yield from items
            return
        iterator: Iterator[ItemT] | None = None
        while True:
            self.generators.restore(self._scripts)
            try:
                iterator = iter(items) if iterator is None else iterator
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._scripts = self.generators.capture()
            yield item

    def end(self) -> None:
        """Give the script its generators back."""
        self.generators.restore(self._scripts)


@contextmanager
def running(module: nn.Module, *, is_training: bool) -> Iterator[Turns]:
    """Let a module run reproducibly, and such that its gradients can be differentiated.

    Global generators are given back as the script left them: seed them inside, for dropout and the
    like. In meta-training submodules are in the modes that they are in; otherwise all are in
    evaluation mode, and get their modes back.
    """
    devices = {p.device for p in module.parameters() if p.device.type != "cpu"}
    has_recurrence = any(isinstance(layer, nn.RNNBase) for layer in module.modules())
    with ExitStack() as stack:
        turns = Turns(Generators(devices))
        stack.callback(turns.end)
        # an interrupt on the way into ``no_grad`` would leave gradients off
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        # of all kernels for attention, only this one's backward pass has a derivative
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if has_recurrence and any(device.type == "cuda" for device in devices):
            # cuDNN's recurrent networks have no second derivative
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if "torch._dynamo" in sys.modules:
            # what torch.compile made of a module has no second derivative; the module itself has
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if not is_training:
            stack.enter_context(_judged(module))
        yield turns


@contextmanager
def _judged(module: nn.Module) -> Iterator[None]:
    modes = {layer: layer.training for layer in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode
