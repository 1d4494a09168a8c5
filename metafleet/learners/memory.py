"""Adapting once and predicting often: what an adaptation leaves, as tensors that can be stored."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.base import Learner
from metafleet.learners.context import EpisodeContext
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.support_tensors import alike, keep_support, kept_support
from metafleet.models.batch_norm import EpisodeNorm
from metafleet.notes import Notes
from metafleet.params import MetaState, Params


def memorise(learner: Learner, state: MetaState, support: ExampleSet, n_way: int) -> Params:
    """Adapt to a support set, and return what ``predict_from`` needs besides the state.

    Fast parameters of learners with inner steps, prototypes or weights of those that compare
    embeddings; the support set itself where nothing less would do: of learners that read it anew
    with each query, and of those that normalise it together with the queries.

    Raises:
        DataError: the support set lacks a class.
        NumericsError: a support loss is not finite.
    """
    if not isinstance(learner, EpisodicLearner):
        return keep_support(support)
    learner.check_support(support, n_way)
    context = learner.judging_context(state, support, n_way, n_query=1, seed=0)
    with torch.no_grad():
        memory = learner.remember(state.params, support, context)
    learner.require_finite(context.support_losses())
    return {name: tensor.detach().clone() for name, tensor in memory.items()}


def predict_from(
    learner: Learner,
    state: MetaState,
    memory: Params,
    inputs: Mapping[str, Tensor],
    n_way: int,
) -> Tensor:
    """Predict ``inputs`` as ``Learner.predict`` does after it adapted to the same support set.

    Outputs may differ from its by rounding: where the support set is not computed again, sums are
    grouped in another way.

    Returns:
        Logits [n, n_way], or values [n, d].
    """
    if not isinstance(learner, EpisodicLearner):
        support, inputs = alike(kept_support(memory), inputs)
        return learner.predict(state, support, inputs, n_way)
    notes = Notes()
    norm = EpisodeNorm(learner.batch_norm, state.buffers, is_training=False, notes=notes)
    context = EpisodeContext(n_way=n_way, is_training=False, norm=norm, notes=notes)
    with torch.no_grad():
        return learner.recall(state.params, memory, inputs, context)
