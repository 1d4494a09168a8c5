"""The base of learners that read the support set as a sequence, then one query."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.pairs import PairLearner
from metafleet.params import MetaState, Params
from metafleet.seeds import CounterRng

OptionsT = TypeVar("OptionsT")


class SequenceLearner(PairLearner[OptionsT], Generic[OptionsT]):
    """A network that reads the support set in an order drawn for each episode, then a query.

    Each query comes by itself, so that none sees another unless batch norm does. A subclass writes
    ``init_reader`` and ``read``.
    """

    @abstractmethod
    def init_reader(self, seed: int) -> Params:
        """Draw the parameters of the network that reads."""

    @abstractmethod
    def read(self, params: Params, support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        """Read the support set, then each query; return outputs [n, n_targets].

        Args:
            params: the state's.
            support: [m, n_inputs], in the order to be read.
            targets: [m, n_targets], values or one-hot classes.
            query: [n, n_inputs].
        """

    def init_state(self, seed: int) -> MetaState:
        """Draw the model's parameters and the reader's."""
        params = self.model.init_params(seed) | self.init_reader(seed)
        return MetaState(params, self.model.init_buffers())

    def draw(self, rng: CounterRng, n_support: int, n_query: int) -> Params:
        """Draw the order in which the support set is read."""
        return {"order": torch.tensor(rng.sample(n_support, n_support))}

    def query_outputs(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Embed both, read the support set in its order, and answer each query."""
        known, targets, asked = self.embed(params, support, inputs, context)
        order = context.drawn["order"]
        return self.read(params, known[order], targets[order], asked)
