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
        """Sum the meta-gradients of ``episodes`` in order; consumes the iterable lazily.

        Args:
            state: the state, on the device of the episodes; not written to.
            episodes: at least one episode; all are of one outer step and one shape.
            first: index of the first episode, for messages.

        Returns:
            The sum, on the device of the state; shares no memory with it.

        Raises:
            NumericsError: a loss or gradient is not finite; names the episode.
            ConfigError: the strategy cannot execute the learner, or not on this machine.
        """
        ...
