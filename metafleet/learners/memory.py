"""Adapt once and predict many times: store the result of an adaptation as tensors."""

from collections.abc import Mapping

from torch import Tensor

from metafleet.episode import ExampleSet, alike, keep_support, kept_support
from metafleet.learners.base import Learner
from metafleet.learners.episodic import EpisodicLearner
from metafleet.params import MetaState, Params


def memorise(learner: Learner, state: MetaState, support: ExampleSet, n_way: int) -> Params:
    """Adapt to a support set and return what ``predict_from`` needs in addition to the state.

    Learners with inner steps need their fast parameters. Learners that compare embeddings need
    prototypes or weights. Some learners read the support set again for each query, or normalise the
    support set together with the queries. These learners need the support set itself. For an
    ``EpisodicLearner``, the result shares no memory with the state or the support set.

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
    """Predict ``inputs`` from a stored adaptation, as ``Learner.predict`` does from a support set.

    Outputs may differ from those of ``predict`` by rounding: see ``EpisodicLearner.predict_from``.

    Returns:
        Logits [n, n_way], or values [n, d].
    """
    if isinstance(learner, EpisodicLearner):
        return learner.predict_from(state, memory, inputs, n_way)
    support, inputs = alike(kept_support(memory), inputs)
    return learner.predict(state, support, inputs, n_way)
