"""What surrounds one episode while a learner computes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from metafleet.cancellation import stop_if_unwanted
from metafleet.learners.differentiation import Differentiate, by_autograd
from metafleet.models.batch_norm import Normalise
from metafleet.models.episode_norm import EpisodeNorm
from metafleet.models.notes import Notes
from metafleet.params import Params

_SUPPORT_LOSS = "support loss"


@dataclass(slots=True)
class EpisodeContext:
    """One episode's surroundings: made fresh for each, by whoever executes it.

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
