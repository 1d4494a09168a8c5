"""Any ``torch.nn.Module`` as a function of its parameters, with the caller's batch norm.

``torch.func.functional_call`` replaces the module's parameters. During a call, batch norm layers
use the caller's normalisation and write no running statistics. A caller can modulate the outputs of
layers, and can stop the forward pass before the output layer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from metafleet.errors import ConfigError
from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.module_statistics import rescaling
from metafleet.models.packing import PackedLayout, pack

Call = tuple[Sequence[Tensor], Mapping[str, Tensor]]
"""Positional and keyword arguments of a forward pass."""


class ModuleFunction:
    """Calls a module as a stateless function that takes the parameters as an argument.

    A call uses the module's own buffers. If the caller does not pass a parameter, the call uses the
    module's own value. A call is not thread-safe, because it replaces the ``forward`` of some
    layers while it runs.

    Args:
        module: any module. If parameters are tied, only the first of their names is used.
        head: name of the submodule that is the output layer, such as "fc"; None without a head.
        packs: whether outputs may be dicts and tuples. A call then returns them packed into one
            tensor.

    Attributes:
        norms: batch norm layers by name.
        layout: layout of the latest outputs if they were packed; None otherwise.

    Raises:
        ConfigError: there is no submodule ``head``, or it cannot be an output layer.
    """

    def __init__(self, module: nn.Module, *, head: str | None = None, packs: bool = False) -> None:
        self.module = module
        self.layout: PackedLayout | None = None
        self._packs = packs
        self.head_name = head
        self.head = None if head is None else _head_of(module, head)
        self.norms = {
            name: layer for name, layer in module.named_modules() if isinstance(layer, _BatchNorm)
        }

    def __call__(
        self,
        params: Mapping[str, Tensor],
        call: Call,
        norm: Normalise,
        modulate: tuple[Modulate, Sequence[str]] | None = None,
        *,
        stops_at_head: bool = False,
    ) -> Tensor:
        """Run the module.

        Args:
            params: parameters by their names in the module. A missing parameter keeps the module's
                own value.
            call: the module's arguments.
            norm: the normalisation to use in place of the batch norm layers.
            modulate: a function and the names of layers. The function's results replace the outputs
                of these layers.
            stops_at_head: whether to return the input of the head.
        """
        with ExitStack() as stack:
            for name, layer in self.norms.items():
                stack.enter_context(_forward_as(layer, _normalised(name, layer, norm)))
            if stops_at_head and self.head is not None:
                stack.enter_context(_forward_as(self.head, self._first_of_head))
            if modulate is not None:
                change, names = modulate
                for name in names:
                    hook = _changed(name, change)
                    handle = self.module.get_submodule(name).register_forward_hook(hook)
                    stack.callback(handle.remove)
            args, kwargs = call
            outputs = functional_call(self.module, dict(params), tuple(args), dict(kwargs))
        return self._single(outputs, call)

    def unpacked(self, outputs: Tensor) -> Any:
        """Return the latest outputs in the structure that the module returned."""
        return outputs if self.layout is None else self.layout.unpack(outputs)

    def _single(self, outputs: Any, call: Call) -> Tensor:
        self.layout = None
        if isinstance(outputs, Tensor):
            return outputs
        if not self._packs:
            raise ConfigError(
                f"the module returns a {type(outputs).__name__}; expected a tensor [n, ...], or a "
                "loss of yours that takes it"
            )
        args, kwargs = call
        n = len(next(iter((*args, *kwargs.values()))))
        packed, self.layout = pack(outputs, n=n, what=f"outputs, a {type(outputs).__name__},")
        return packed

    def apply_head(self, params: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Run only the head, on its input ``features``."""
        assert self.head is not None
        start = f"{self.head_name}."
        own = {n.removeprefix(start): v for n, v in params.items() if n.startswith(start)}
        outputs: Tensor = functional_call(self.head, own, (features,))
        return outputs

    def _first_of_head(self, *given: Any, **named: Any) -> Tensor:
        """Replace the head's ``forward``: return its input."""
        if len(given) != 1 or named or not isinstance(given[0], Tensor):
            kinds = [type(value).__name__ for value in given] + [f"{name}=..." for name in named]
            raise ConfigError(
                f"head={self.head_name!r} is called with ({', '.join(kinds)}); expected one tensor "
                "alone: name another submodule as head, or put what else it takes into the body"
            )
        features: Tensor = given[0]
        return features

    def head_names(self) -> frozenset[str]:
        """Return the names of the head's parameters; empty without a head."""
        if self.head is None:
            return frozenset()
        names = (name for name, _ in self.module.named_parameters())
        return frozenset(name for name in names if name.startswith(f"{self.head_name}."))


def _normalised(name: str, layer: _BatchNorm, norm: Normalise) -> Callable[[Tensor], Tensor]:
    factor = rescaling(layer)

    def forward(x: Tensor) -> Tensor:
        # look these up at call time, when they are the swapped parameters
        scale, shift = layer.weight, layer.bias
        if scale is None:
            scale = torch.ones(x.shape[1], device=x.device, dtype=x.dtype)
        if shift is None:
            shift = torch.zeros_like(scale)
        return norm(name, x if factor == 1.0 else factor * x, scale, shift)

    return forward


def _changed(name: str, change: Modulate) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    return lambda layer, args, output: change(name, output)


@contextmanager
def _forward_as(layer: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace the ``forward`` of ``layer`` inside the block; its hooks still run."""
    own = layer.__dict__.get("forward")
    layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        layer.__dict__.pop("forward", None)  # already gone if a step was undone meanwhile
        if own is not None:
            layer.__dict__["forward"] = own


def _head_of(module: nn.Module, name: str) -> nn.Module:
    names = [found for found, _ in module.named_modules() if found]
    if name not in names:
        known = ", ".join(map(repr, names)) or "none"
        raise ConfigError(f"head={name!r} but the module's submodules are {known}")
    head = module.get_submodule(name)
    if any(isinstance(layer, _BatchNorm) for layer in head.modules()):
        raise ConfigError(f"head={name!r} has batch norm; expected a submodule without any")
    start = f"{name}."
    # the head must not share parameters: a tied parameter is adapted with the body
    own = {found for found, _ in module.named_parameters() if found.startswith(start)}
    tied = [found for found, _ in head.named_parameters() if start + found not in own]
    if tied or not own:
        what = f"shares {tied[0]!r} with the body" if tied else "has no parameters"
        raise ConfigError(f"head={name!r} {what}; expected parameters of its own")
    return head
