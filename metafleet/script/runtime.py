"""The context in which a learner runs a user's module."""

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
    """Gives the global generators the script's state while the script makes episodes.

    Args:
        generators: the generators of torch, NumPy and Python.
    """

    def __init__(self, generators: Generators) -> None:
        self.generators = generators
        self._scripts = generators.capture()

    def each(self, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """Yield the script's items; each is made with the generator state of the one before."""
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
        """Restore the script's generators."""
        self.generators.restore(self._scripts)


@contextmanager
def running(module: nn.Module, *, is_training: bool) -> Iterator[Turns]:
    """Make a module run reproducibly, with gradients that can be differentiated themselves.

    Inside the block, the caller must seed the global generators, for example for dropout. On exit,
    the generators are reset to the script's states. In meta-training, the modes of submodules are
    not changed. Outside meta-training, all submodules are in evaluation mode inside the block, and
    their modes are restored on exit.
    """
    devices = {p.device for p in module.parameters() if p.device.type != "cpu"}
    has_recurrence = any(isinstance(layer, nn.RNNBase) for layer in module.modules())
    with ExitStack() as stack:
        turns = Turns(Generators(devices))
        stack.callback(turns.end)
        # an interrupt while ``no_grad`` is entered would leave gradients off
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        # only this attention kernel has a differentiable backward pass
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if has_recurrence and any(device.type == "cuda" for device in devices):
            # cuDNN's recurrent networks do not support second derivatives
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if "torch._dynamo" in sys.modules:
            # compiled modules do not support second derivatives; the original module does
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
