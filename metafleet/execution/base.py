"""What a way to execute episodes is."""

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
        """What it was made for."""
        ...

    def gradient(
        self, state: MetaState, episodes: Iterable[Episode], *, first: int = 0
    ) -> MetaGradient:
        """Sum the meta-gradients of ``episodes``, in their order; takes them as it needs them.

        Args:
            state: on the device of the episodes; not written to.
            episodes: of one outer step and one shape, one at least.
            first: what the first one's index is, for messages.

        Returns:
            The sum, on the device of the state, in memory of its own.

        Raises:
            NumericsError: a loss or gradient is not finite; names the episode.
            ConfigError: the learner cannot be executed so, or not on this machine.
        """
        ...
