"""Episodes of one outer step that know nothing of one another."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from metafleet.purity.hidden_state import HiddenState, Snapshot
from metafleet.purity.kept_values import is_same

EpisodeT = TypeVar("EpisodeT")


class EpisodesApart:
    """Has every episode of an outer step find modules as the step found them.

    What the first episode leaves in them is what the step leaves: a state that the modules came to
    by themselves, which a mean of several need not be.

    Args:
        hidden: of the modules. Not theirs, but the script's, is what changes between episodes, such
            as a generator that the script draws its episodes with.
    """

    def __init__(self, hidden: HiddenState) -> None:
        self._hidden = hidden
        self._start = self._left = self._outside = hidden.capture(generators=False)

    def each(self, episodes: Iterable[EpisodeT]) -> Iterator[EpisodeT]:
        """Pass on episodes, each of which is computed before the next is asked for."""
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
        """Leave in the modules what the first episode left."""
        kinds = zip(self._start.values, self._outside.values, self._left.values, strict=True)
        values = [
            {**left, **{n: v for n, v in out.items() if not is_same(v, start.get(n))}}
            for start, out, left in kinds
        ]
        self._hidden.restore(Snapshot(values, None))

    def undo(self) -> None:
        """Leave in the modules what was in them before."""
        self._hidden.restore(self._start)
