"""The gradient of a loss that a training loop computed with the module."""

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
"""Part of torch's message -> what it means here."""


def loss_gradient(loss: Tensor, params: Mapping[str, Tensor]) -> Params:
    """Return the gradient for each of ``params``, zeros if the loss does not depend on it.

    Args:
        loss: a scalar with an autograd graph. This call frees the graph.
        params: parameters by name. All must require gradients.

    Raises:
        ConfigError: the loss is not a scalar, or it depends on none of ``params``.
    """
    if loss.dim() != 0:
        raise ConfigError(
            f"the loss has shape {tuple(loss.shape)}; expected a scalar, such as with "
            "reduction='mean'"
        )
    found: tuple[Tensor | None, ...] = (None,) * len(params)
    if loss.requires_grad:
        try:
            found = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
        except RuntimeError as error:
            raise ConfigError(_reason(error)) from error
    if all(grad is None for grad in found):
        raise ConfigError(
            "the loss does not depend on the module's parameters; expected one computed from the "
            "module's outputs, without detach(), item(), numpy() or no_grad()"
        )
    return {
        name: torch.zeros_like(value) if grad is None else grad.detach()
        for (name, value), grad in zip(params.items(), found, strict=True)
    }


def _reason(error: RuntimeError) -> str:
    text = str(error)
    for known, reason in _REASONS.items():
        if known in text:
            return reason
    line = next(iter(text.strip().splitlines()), type(error).__name__)
    return f"the loss cannot be differentiated ({line[:200]})"
