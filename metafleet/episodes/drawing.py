"""Selection of the items of an episode that is not ordinary."""

from collections.abc import Sequence
from dataclasses import dataclass

from metafleet.episode import EpisodeShape
from metafleet.seeds import CounterRng


@dataclass(frozen=True, slots=True)
class Candidates:
    """The items of one class from which an episode may draw.

    Attributes:
        index: the class's position in its split.
        support: rows that can be support examples, ascending.
        query: rows that can be query examples, ascending.
    """

    index: int
    support: Sequence[int]
    query: Sequence[int]

    def can_give(self, k_shot: int, n_query: int) -> bool:
        """Return whether the class has enough distinct items for both sets."""
        n_any = len(set(self.support) | set(self.query))
        is_enough_each = len(self.support) >= k_shot and len(self.query) >= n_query
        return is_enough_each and n_any >= k_shot + n_query


def draw_items(
    candidates: Candidates, k_shot: int, n_query: int, rng: CounterRng
) -> tuple[list[int], list[int]]:
    """Draw different items of one class for support and query.

    This succeeds whenever ``can_give`` is true. If every item can be in support and in query, the
    draws are the same as for an ordinary episode: ``rng.sample(n_items, k_shot + n_query)``.
    """
    support, query = candidates.support, candidates.query
    if support == query:
        drawn = [support[i] for i in rng.sample(len(support), k_shot + n_query)]
        return drawn[:k_shot], drawn[k_shot:]
    may_query = set(query)
    n_shared = sum(row in may_query for row in support)
    # how many shared items may go to the support set and still leave enough for the query set
    spare = n_shared - max(0, n_query - (len(query) - n_shared))
    chosen: list[int] = []
    for i in rng.sample(len(support), len(support)):
        if len(chosen) == k_shot:
            break
        row = support[i]
        if row in may_query:
            if spare == 0:
                continue
            spare -= 1
        chosen.append(row)
    taken = set(chosen)
    left = [row for row in query if row not in taken]
    return chosen, [left[i] for i in rng.sample(len(left), n_query)]


def uneven_shots(room: Sequence[int], shape: EpisodeShape, rng: CounterRng) -> list[int]:
    """Distribute ``n_way * k_shot`` support examples at random; each class gets at least one.

    First, one of all such distributions is drawn, with equal probabilities. If a class then has
    more examples than its ``room``, the excess examples move to other classes, which are drawn one
    at a time.

    Args:
        room: maximum number of support examples of each class, >= 1. The sum over classes must be
            at least ``n_way * k_shot``.
        shape: shape of the episode.
        rng: random numbers of the episode.
    """
    total = shape.n_way * shape.k_shot
    cuts = sorted(1 + cut for cut in rng.sample(total - 1, shape.n_way - 1))
    wanted = [b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True)]
    shots = [min(w, r) for w, r in zip(wanted, room, strict=True)]
    for _ in range(total - sum(shots)):
        open_classes = [i for i, r in enumerate(room) if shots[i] < r]
        shots[open_classes[rng.integer(len(open_classes))]] += 1
    return shots
