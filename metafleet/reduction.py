"""Sums of shards whose bits do not depend on the order in which shards arrive."""

from collections.abc import Mapping

from torch import Tensor

from metafleet.errors import ContractError
from metafleet.params import Params

_Node = tuple[int, int]
"""Level above the shards, and position in it."""


class TreeReducer:
    """Adds shards along a fixed binary tree over their index: (0, 1), (2, 3), ... and so on up.

    A node without a sibling, at the right edge, moves up as it is. A pair is added, and one of the
    two freed, as soon as both are there: shards in order of index keep at most log2(n) + 1 sums
    alive. Not thread-safe.

    Args:
        n_shards: how many shards there will be, >= 1.
    """

    def __init__(self, n_shards: int) -> None:
        if n_shards < 1:
            raise ContractError(f"n_shards={n_shards}; expected 1 or more")
        self._n_shards = n_shards
        self._waiting: dict[_Node, Params] = {}
        self._added: set[int] = set()
        self._shapes: dict[str, tuple[int, ...]] | None = None

    @property
    def missing(self) -> tuple[int, ...]:
        """Shards not added yet, in order."""
        return tuple(i for i in range(self._n_shards) if i not in self._added)

    @property
    def n_alive(self) -> int:
        """How many sums are held in memory."""
        return len(self._waiting)

    def add(self, shard: int, tensors: Params) -> None:
        """Add one shard. ``tensors`` are taken over and may be changed.

        Raises:
            ContractError: the shard is unknown or already there, or its names or shapes are not
                those of the other shards; nothing is added then.
        """
        self._check(shard, tensors)
        self._added.add(shard)
        level, index, width, total = 0, shard, self._n_shards, tensors
        while width > 1:
            sibling = index ^ 1
            if sibling < width:
                other = self._waiting.pop((level, sibling), None)
                if other is None:
                    break
                total = _sum_in_place(total, other)
            level, index, width = level + 1, index // 2, (width + 1) // 2
        self._waiting[level, index] = total

    def result(self, *, partial: bool = False) -> Params:
        """Return the sum over all shards; over those that came, if ``partial``.

        A partial sum depends on which shards came, but not on their order of arrival.

        Raises:
            ContractError: a shard is missing, or all are.
        """
        if partial and self._added:
            return self._join_what_is_there()
        if missing := self.missing:
            raise ContractError(
                f"{len(missing)} of {self._n_shards} shards are missing, first {missing[0]}; "
                "add every shard before the result"
            )
        (total,) = self._waiting.values()
        return total

    def _join_what_is_there(self) -> Params:
        """Add what waits, from right to left: the order the tree would have it joined in."""
        nodes = sorted(self._waiting, key=lambda node: node[1] << node[0], reverse=True)
        total = self._waiting[nodes[0]]
        for node in nodes[1:]:
            total = _sum_in_place(self._waiting[node], total)
        return total

    def _check(self, shard: int, tensors: Mapping[str, Tensor]) -> None:
        if not 0 <= shard < self._n_shards:
            raise ContractError(f"shard={shard}; expected 0 to {self._n_shards - 1}")
        if shard in self._added:
            raise ContractError(f"shard={shard} came twice; add each shard once")
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if self._shapes is None:
            self._shapes = shapes
        elif shapes != self._shapes:
            differing = sorted(
                name
                for name in shapes.keys() | self._shapes.keys()
                if shapes.get(name) != self._shapes.get(name)
            )
            raise ContractError(
                f"shard={shard} has other names or shapes than the shards before, such as "
                f"{differing[0]!r}; every shard must come from the same model"
            )


def _sum_in_place(total: Params, other: Mapping[str, Tensor]) -> Params:
    # a + b and b + a are the same bits, so it does not matter which of the two came first
    for name, tensor in total.items():
        tensor += other[name]  # noqa: PLW2901 # in place: the tensor itself is changed
    return total
