"""What surrounds a user's module while a learner runs it."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def running(module: nn.Module, *, is_training: bool) -> Iterator[None]:
    """Let a module run reproducibly, and such that its gradients can be differentiated.

    torch's global generators are given back as they were: seed them inside, for dropout and the
    like. In meta-training submodules are in the modes that they are in; otherwise all are in
    evaluation mode, and get their modes back.
    """
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    has_recurrence = any(isinstance(layer, nn.RNNBase) for layer in module.modules())
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=list(devices)))
        # of all kernels for attention, only this one's backward pass has a derivative
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if devices and has_recurrence:
            # cuDNN's recurrent networks have no second derivative
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if "torch._dynamo" in sys.modules:
            # what torch.compile made of a module has no second derivative; the module itself has
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if not is_training:
            stack.enter_context(_judged(module))
        yield


@contextmanager
def _judged(module: nn.Module) -> Iterator[None]:
    modes = {layer: layer.training for layer in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode
