"""What leaves an episode of meta-training, before it is judged."""

from typing import NamedTuple

from torch import Tensor

from metafleet.params import Params


class QueryGradient(NamedTuple):
    """What an episode says about the state.

    Attributes:
        grads: gradient for each of ``MetaState.params``.
        loss: what was differentiated, a scalar.
        outputs: of the query set: logits [n, n_way], or values [n, d].
    """

    grads: Params
    loss: Tensor
    outputs: Tensor


class EpisodeOutcome(NamedTuple):
    """All that leaves one episode in meta-training; tensors alone, so that it can be mapped.

    Attributes:
        query: gradient, loss and outputs.
        support_losses: a scalar for each inner step.
        statistics: batch statistics for each of ``MetaState.buffers``.
    """

    query: QueryGradient
    support_losses: list[Tensor]
    statistics: Params
