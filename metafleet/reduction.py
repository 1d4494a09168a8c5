"""Summation of shards, bit-identical regardless of the order in which they arrive."""

from collections.abc import Mapping

from torch import Tensor

from metafleet.errors import ContractError
from metafleet.params import Params

_Node = tuple[int, int]
"""Level above the shards, and position in it."""


class TreeReducer:
    """Adds up the gradients of shards along a fixed binary tree over the shards' indices.

    A shard is the part of a step's episodes that one job computes. The tree first adds shards 0 and
    1, 2 and 3, and so on. Then it adds the sum of shards 0 and 1 to the sum of shards 2 and 3, and
    so on. If the last node of a level has no sibling, it moves up unchanged. Two siblings are added
    as soon as both have arrived. The sum reuses the memory of one sibling. If shards arrive in the
    order of their index, at most log2(n) + 1 sums are therefore in memory. The reducer is not
    thread-safe.

    Args:
        n_shards: total number of shards, >= 1.
    """

    def __init__(self, n_shards: int) -> None:
        if n_shards < 1:
            raise ContractError(f"n_shards={n_shards}; expected 1 or more")
        self._n_shards = n_shards
        self._waiting: dict[_Node, Params] = {}
        self._added: set[int] = set()
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self._spares: list[Params] = []
        self._most_alive = 0

    @property
    def missing(self) -> tuple[int, ...]:
        """Shards not added yet, in order."""
        return tuple(i for i in range(self._n_shards) if i not in self._added)

    @property
    def n_alive(self) -> int:
        """Number of sums held in memory, including those whose memory will be reused."""
        return len(self._waiting) + len(self._spares)

    def add(self, shard: int, tensors: Params, *, may_change: bool = True) -> None:
        """Add one shard.

        Args:
            shard: index of the shard.
            tensors: sum of the shard's meta-gradients.
            may_change: whether the reducer may keep and change ``tensors``. If not, the reducer
                only reads them during this call, so that they can be memory-mapped.

        Raises:
            ContractError: the shard is unknown or was added before, or its names or shapes differ
                from those of the other shards. If this error is raised, nothing is added.
        """
        self._check(shard, tensors)
        self._added.add(shard)
        total, is_ours = tensors, may_change
        level, index, width = 0, shard, self._n_shards
        while width > 1:
            sibling = index ^ 1
            if sibling < width:
                other = self._waiting.pop((level, sibling), None)
                if other is None:
                    break
                if is_ours and not may_change:
                    self._keep_spare(total)
                total, is_ours = _sum_in_place(other, total), True
            level, index, width = level + 1, index // 2, (width + 1) // 2
        self._waiting[level, index] = total if is_ours else self._copy(total)
        self._most_alive = max(self._most_alive, len(self._waiting))

    def result(self, *, partial: bool = False) -> Params:
        """Return the sum over all shards. With ``partial``, sum only those that have arrived.

        A partial sum depends on which shards arrived, but not on their order.

        Raises:
            ContractError: a shard is missing. With ``partial``, this error is raised only if all
                shards are missing.
        """
        if partial and self._added:
            return self._join_what_is_there()
        if missing := self.missing:
            raise ContractError(
                f"{len(missing)} of {self._n_shards} shards are missing, first {missing[0]}; "
                "add every shard before the result"
            )
        (total,) = self._waiting.values()
        self._spares.clear()
        return total

    def _keep_spare(self, tensors: Params) -> None:
        """Keep the memory of a sum for reuse: allocating memory costs more than adding."""
        if self.n_alive < self._most_alive:
            self._spares.append(tensors)

    def _copy(self, tensors: Mapping[str, Tensor]) -> Params:
        if not self._spares:
            return {name: tensor.clone() for name, tensor in tensors.items()}
        spare = self._spares.pop()
        for name, tensor in tensors.items():
            spare[name].copy_(tensor)
        return spare

    def _join_what_is_there(self) -> Params:
        """Add the waiting sums from right to left, the order in which the tree would join them."""
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
    # a + b and b + a are bit-identical, so it does not matter which operand arrived first
    for name, tensor in total.items():
        tensor += other[name]  # noqa: PLW2901 # in place: the tensor itself is changed
    return total
