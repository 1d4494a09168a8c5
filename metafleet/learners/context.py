"""What surrounds one episode while a learner computes it, and how that is differentiated.

Autograd is faster where an episode is computed by itself; ``torch.func`` is what can be mapped over
episodes (``vmap``) and traced. A learner calls whichever its context holds.
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


@dataclass(slots=True)
class EpisodeContext:
    """One episode's surroundings: its executor makes one for each.

    Attributes:
        n_way: number of classes; 0 for regression.
        is_training: True in meta-training, False when judged or predicting.
        norm: the batch norm of this episode.
        notes: what is said on the side, ``norm``'s statistics among it.
        variant: what the learner's ``variant`` gave for this outer step, "" when judged.
        schedule: what the learner's ``schedule`` gave for this outer step, empty when judged.
        drawn: what the learner's ``draw`` gave for this episode.
        differentiate: how gradients are taken.
        normalise: what normalises the forward pass at hand. ``InnerLoopLearner`` sets it to the
            support set's during inner steps and to the query set's afterwards.
        is_traced: True while ``vmap`` or a compiler runs the learner.
        seed: of what ``recall`` draws, by what is remembered alone.
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
        """Return the gradient of ``loss_fn`` at ``params``, zeros where it does not depend, and it.

        May be nested, in other calls of it too. With ``create_graph`` the gradient can itself be
        differentiated; without, it is a constant.
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
        """Do as ``grad`` for a function that returns (loss, aux), and return aux as well.

        Tensors that leave the function do so by ``aux`` alone; aux is a tensor, or tuples, lists
        and dicts of them.
        """
        return self.differentiate(function, params, self.notes, create_graph=create_graph)

    def note_support_loss(self, loss: Tensor) -> None:
        """Remember an inner step's loss, to be refused afterwards if it is not finite."""
        self.notes.add(_SUPPORT_LOSS, loss)

    def support_losses(self) -> list[Tensor]:
        """Return the noted losses, a scalar for each inner step."""
        return list(self.notes.values(_SUPPORT_LOSS))

    def enter_step(self, index: int) -> None:
        """Surround inner step ``index`` with the support set's batch norm.

        Raises:
            StaleError: nobody waits for the result any more.
        """
        if not self.is_traced:
            stop_if_unwanted()
        self.norm.step = index
        self.normalise = self.norm.support
