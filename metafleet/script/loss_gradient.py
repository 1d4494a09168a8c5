"""The gradient of a loss that a training loop computed with the module itself."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.params import Params

_REASONS = {
    "backward through the graph a second time": (
        "the loss was differentiated before; leave out loss.backward(), and what a batch carries "
        "over to the next: detach it"
    ),
    "modified by an inplace operation": (
        "the loss was computed before the last optimize moved the parameters; compute each loss "
        "from new outputs"
    ),
}
"""What torch's message has in it -> what it means here."""


def loss_gradient(loss: Tensor, params: Mapping[str, Tensor]) -> Params:
    """Return the gradient for each of ``params``, zeros for those that the loss does not depend on.

    Args:
        loss: a scalar with a graph; the graph is freed.
        params: by name; those that are frozen by now have zeros.

    Raises:
        ConfigError: it is no scalar, or nothing to differentiate.
    """
    if loss.dim() != 0:
        raise ConfigError(
            f"the loss has shape {tuple(loss.shape)}; expected a scalar, such as with "
            "reduction='mean'"
        )
    learning = {name: value for name, value in params.items() if value.requires_grad}
    found: tuple[Tensor | None, ...] = ()
    if loss.requires_grad and learning:
        try:
            found = torch.autograd.grad(loss, list(learning.values()), allow_unused=True)
        except RuntimeError as error:
            raise ConfigError(_reason(error)) from error
    if all(grad is None for grad in found):
        raise ConfigError(
            "the loss does not depend on the module's parameters; expected one computed from the "
            "module's outputs, without detach(), item(), numpy() or no_grad()"
        )
    known = dict(zip(learning, found, strict=True))
    grads = {name: (known.get(name), value) for name, value in params.items()}
    return {
        name: torch.zeros_like(value) if grad is None else grad.detach()
        for name, (grad, value) in grads.items()
    }


def _reason(error: RuntimeError) -> str:
    text = str(error)
    for known, reason in _REASONS.items():
        if known in text:
            return reason
    line = next(iter(text.strip().splitlines()), type(error).__name__)
    return f"the loss cannot be differentiated ({line[:200]})"
