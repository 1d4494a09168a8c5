"""Isolation of the episodes of one outer step from each other."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from metafleet.purity.hidden_state import HiddenState, Snapshot
from metafleet.purity.kept_values import is_same

EpisodeT = TypeVar("EpisodeT")


class EpisodesApart:
    """Restores the modules' hidden state, so that all episodes of a step start from the same state.

    After the step, the modules have the hidden state that the first episode left. The mean of the
    states that the episodes left is not used, because a module might never reach such a state by
    itself.

    Args:
        hidden: hidden state of the modules. If the state changes between two episodes, the script
            made the change. For example, a generator changes if the script draws episodes from it.
            A change that the script made is kept.
    """

    def __init__(self, hidden: HiddenState) -> None:
        self._hidden = hidden
        self._start = self._left = self._outside = hidden.capture(generators=False)

    def each(self, episodes: Iterable[EpisodeT]) -> Iterator[EpisodeT]:
        """Yield the episodes; the caller must compute each one before it asks for the next."""
        hidden, start = self._hidden, self._start
        for index, episode in enumerate(episodes):
            self._outside = hidden.capture(generators=False) if hidden.changes(start) else start
            if self._outside is not start:
                hidden.restore(start)
            yield episode
            if index == 0:
                hidden.unlink()
                self._left = hidden.capture(generators=False)
            hidden.restore(self._outside)

    def settle(self) -> None:
        """Set the hidden state to the one that the first episode left."""
        kinds = zip(self._start.values, self._outside.values, self._left.values, strict=True)
        values = [
            {**left, **{n: v for n, v in out.items() if not is_same(v, start.get(n))}}
            for start, out, left in kinds
        ]
        self._hidden.restore(Snapshot(values, None))

    def undo(self) -> None:
        """Set the hidden state to the one before the step."""
        self._hidden.restore(self._start)
