"""The context in which a learner computes one episode, and two ways to compute gradients.

Gradients come from autograd or from ``torch.func``. Autograd is faster when episodes are computed
one at a time. ``torch.func`` can be traced and mapped over episodes (``vmap``). The episode's
context decides which of the two a learner uses.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from metafleet.cancellation import stop_if_unwanted
from metafleet.models.batch_norm import Normalise
from metafleet.models.episode_norm import EpisodeNorm
from metafleet.models.notes import Notes
from metafleet.params import Params

_SUPPORT_LOSS = "support loss"

Function = Callable[[Params], tuple[Tensor, Any]]
"""Params -> (loss, any structure of tensors)."""


class Differentiate(Protocol):
    """Differentiate the loss of a function of named tensors."""

    def __call__(
        self, function: Function, params: Mapping[str, Tensor], notes: Notes, *, create_graph: bool
    ) -> tuple[Params, Tensor, Any]:
        """Return the gradients (zeros for parameters the loss does not use), the loss and aux.

        Args:
            function: a function that takes ``params`` and returns (loss, aux).
            params: the tensors to differentiate with respect to.
            notes: the notes to which ``function`` may add.
            create_graph: whether the gradients themselves will be differentiated.
        """
        ...


def by_autograd(
    function: Function, params: Mapping[str, Tensor], notes: Notes, *, create_graph: bool
) -> tuple[Params, Tensor, Any]:
    """Differentiate by autograd, in any grad mode of the caller."""
    with torch.enable_grad():
        # Each view is an independent variable. One parameter may be computed from another: a head
        # made of prototypes depends on the body. The views give the partial derivative for each.
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
    """Differentiate by ``torch.func.grad``; works inside ``vmap`` and ``compile``."""
    before = notes.take()

    def traced(own: Params) -> tuple[Tensor, Any]:
        loss, aux = function(own)
        return loss, (loss, aux, notes.take())

    # a gradient that is not differentiated further needs no graph
    given = dict(params) if create_graph else {n: v.detach() for n, v in params.items()}
    grads, (loss, aux, noted) = torch.func.grad(traced, has_aux=True)(given)
    notes.put(before)
    notes.put(noted)
    if not create_graph:
        grads = {name: grad.detach() for name, grad in grads.items()}
    return grads, loss, aux


@dataclass(slots=True)
class EpisodeContext:
    """The context of one episode; the executor makes a new one for each episode.

    Attributes:
        n_way: number of classes; 0 for regression.
        is_training: True in meta-training, False in evaluation and prediction.
        norm: the batch norm of this episode.
        notes: side outputs of the computation, including the batch statistics from ``norm``.
        variant: what the learner's ``variant`` returned for this outer step; "" in evaluation.
        schedule: what the learner's ``schedule`` returned for this outer step; empty in evaluation.
        drawn: what the learner's ``draw`` returned for this episode.
        differentiate: the function that computes gradients.
        normalise: the batch norm of the current forward pass. ``InnerLoopLearner`` sets the batch
            norm for the support set before the inner steps, and the batch norm for the query set
            after them.
        is_traced: True while ``vmap`` or a compiler runs the learner.
        seed: seed with which ``recall`` repeats the random draws of the adaptation.
    """

    n_way: int
    is_training: bool
    norm: EpisodeNorm
    notes: Notes
    variant: str = ""
    schedule: Mapping[str, Tensor] = field(default_factory=dict)
    drawn: Mapping[str, Tensor] = field(default_factory=dict)
    differentiate: Differentiate = by_autograd
    is_traced: bool = False
    seed: int = 0
    normalise: Normalise = field(init=False)

    def __post_init__(self) -> None:
        self.normalise = self.norm.support

    def grad(
        self,
        loss_fn: Callable[[Params], Tensor],
        params: Mapping[str, Tensor],
        *,
        create_graph: bool,
    ) -> tuple[Params, Tensor]:
        """Return the gradient of ``loss_fn`` at ``params``, and the loss.

        The gradient is zero for parameters that the loss does not use. Calls may be nested. With
        ``create_graph``, the gradient itself can be differentiated. Without it, the gradient is a
        constant.
        """
        grads, loss, _ = self.grad_aux(
            lambda own: (loss_fn(own), ()), params, create_graph=create_graph
        )
        return grads, loss

    def grad_aux(
        self,
        function: Callable[[Params], tuple[Tensor, Any]],
        params: Mapping[str, Tensor],
        *,
        create_graph: bool,
    ) -> tuple[Params, Tensor, Any]:
        """Return gradient, loss and aux, as ``grad`` does, for a function that returns (loss, aux).

        ``aux`` is a tensor, or a structure of tuples, lists and dicts of tensors. The function must
        return every tensor except the loss in ``aux``, and must not store a tensor elsewhere.
        """
        return self.differentiate(function, params, self.notes, create_graph=create_graph)

    def note_support_loss(self, loss: Tensor) -> None:
        """Record an inner step's loss; it is checked for finiteness after the adaptation."""
        self.notes.add(_SUPPORT_LOSS, loss)

    def support_losses(self) -> list[Tensor]:
        """Return the recorded losses, a scalar for each inner step."""
        return list(self.notes.values(_SUPPORT_LOSS))

    def enter_step(self, index: int) -> None:
        """Prepare inner step ``index``: use the support set's batch norm.

        Raises:
            StaleError: the result is no longer needed.
        """
        if not self.is_traced:
            stop_if_unwanted()
        self.norm.step = index
        self.normalise = self.norm.support
