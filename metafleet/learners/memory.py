"""Adapting once and predicting often: what an adaptation leaves, as tensors that can be stored."""

from collections.abc import Mapping

from torch import Tensor

from metafleet.episode import ExampleSet, alike, keep_support, kept_support
from metafleet.learners.base import Learner
from metafleet.learners.episodic import EpisodicLearner
from metafleet.params import MetaState, Params


def memorise(learner: Learner, state: MetaState, support: ExampleSet, n_way: int) -> Params:
    """Adapt to a support set, and return what ``predict_from`` needs besides the state.

    Fast parameters of learners with inner steps, prototypes or weights of those that compare
    embeddings; the support set itself where nothing less would do: of learners that read it anew
    with each query, and of those that normalise it together with the queries. Nothing shares
    memory with the state or the support set of an ``EpisodicLearner``.

    Raises:
        DataError: the support set lacks a class.
        NumericsError: a support loss is not finite.
    """
    if not isinstance(learner, EpisodicLearner):
        return keep_support(support)
    memory = learner.adapt(state, support, n_way).memory
    return {name: tensor.detach().clone() for name, tensor in memory.items()}


def predict_from(
    learner: Learner,
    state: MetaState,
    memory: Params,
    inputs: Mapping[str, Tensor],
    n_way: int,
) -> Tensor:
    """Predict ``inputs`` as ``Learner.predict`` does after it adapted to the same support set.

    Outputs may differ from its by rounding: see ``EpisodicLearner.predict_from``.

    Returns:
        Logits [n, n_way], or values [n, d].
    """
    if isinstance(learner, EpisodicLearner):
        return learner.predict_from(state, memory, inputs, n_way)
    support, inputs = alike(kept_support(memory), inputs)
    return learner.predict(state, support, inputs, n_way)
