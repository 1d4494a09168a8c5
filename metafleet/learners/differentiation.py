"""Two ways to differentiate, with one meaning: recorded by autograd, or by ``torch.func``.

Autograd is faster where an episode is computed by itself; ``torch.func`` is what can be mapped over
episodes (``vmap``) and traced. A learner calls whichever its context holds.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from metafleet.models.notes import Notes
from metafleet.params import Params

Function = Callable[[Params], tuple[Tensor, Any]]
"""Params -> (loss, anything made of tensors)."""


class Differentiate(Protocol):
    """Differentiate the loss of a function of named tensors."""

    def __call__(
        self, function: Function, params: Mapping[str, Tensor], notes: Notes, *, create_graph: bool
    ) -> tuple[Params, Tensor, Any]:
        """Return gradients (zeros where the loss does not depend), the loss, and what came with it.

        Args:
            function: params -> (loss, aux).
            params: what to differentiate for.
            notes: what ``function`` may note to.
            create_graph: whether the gradients themselves are differentiated later.
        """
        ...


def by_autograd(
    function: Function, params: Mapping[str, Tensor], notes: Notes, *, create_graph: bool
) -> tuple[Params, Tensor, Any]:
    """Record the function, whatever the caller's grad mode is, and walk back."""
    with torch.enable_grad():
        # a view is a variable of its own: values that come from one another, as a head made of
        # prototypes comes from the body, are held fixed while another is varied
        leaves = {
            name: value.view_as(value) if value.requires_grad else value.detach().requires_grad_()
            for name, value in params.items()
        }
        loss, aux = function(leaves)
        if not loss.requires_grad:
            return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}, loss, aux
        grads = torch.autograd.grad(
            loss,
            list(leaves.values()),
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )
    return dict(zip(leaves, grads, strict=True)), loss, aux


def by_functions(
    function: Function, params: Mapping[str, Tensor], notes: Notes, *, create_graph: bool
) -> tuple[Params, Tensor, Any]:
    """Transform the function by ``torch.func.grad``; may run inside ``vmap`` and ``compile``."""
    before = notes.take()

    def traced(own: Params) -> tuple[Tensor, Any]:
        loss, aux = function(own)
        return loss, (loss, aux, notes.take())

    # a gradient nobody differentiates needs no record of how it came about
    given = dict(params) if create_graph else {n: v.detach() for n, v in params.items()}
    grads, (loss, aux, noted) = torch.func.grad(traced, has_aux=True)(given)
    notes.put(before)
    notes.put(noted)
    if not create_graph:
        grads = {name: grad.detach() for name, grad in grads.items()}
    return grads, loss, aux
