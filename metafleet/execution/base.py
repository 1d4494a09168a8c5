"""The protocol of strategies to execute episodes."""

from collections.abc import Iterable
from typing import Protocol

from metafleet.episode import Episode
from metafleet.execution.strategy import Strategy
from metafleet.learners.base import MetaGradient
from metafleet.params import MetaState


class Execution(Protocol):
    """Computes sums of meta-gradients for one learner. Not thread-safe."""

    @property
    def strategy(self) -> Strategy:
        """The strategy that this object implements."""
        ...

    def gradient(
        self, state: MetaState, episodes: Iterable[Episode], *, first: int = 0
    ) -> MetaGradient:
        """Sum the meta-gradients of ``episodes`` in order. The iterable is consumed lazily.

        Args:
            state: the learned state, on the device of the episodes. The state is not changed.
            episodes: at least one episode. All must have the same outer step and shape.
            first: index of the first episode, for messages.

        Returns:
            The sum, on the device of the state. The sum shares no memory with the state.

        Raises:
            NumericsError: a loss or gradient is not finite; the message names the episode.
            ConfigError: the strategy cannot execute this learner, or cannot run on this machine.
        """
        ...
