"""Adding sums up on workers: aligned groups of shards, each a subtree of the fixed tree.

A group begins at a multiple of the fan-in, a power of two, so its sum along the tree over its own
shards is a node of the tree over all, and the sum of the groups has the bits of the sum of shards.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from metafleet.orchestrator.engine.step import Shard, StepRequest

T = TypeVar("T")


def groups_of(items: Sequence[T], fan_in: int) -> tuple[tuple[T, ...], ...]:
    """Cut what belongs to the shards, in order, into aligned groups."""
    return tuple(tuple(items[first : first + fan_in]) for first in range(0, len(items), fan_in))


def reduce_request(
    request: StepRequest, n_shards: int, fan_in: int
) -> tuple[StepRequest, tuple[Shard, ...]]:
    """Describe the step that adds up ``request``'s sums: one shard for each group."""
    shards = tuple(Shard(index, index, 1) for index in range(-(-n_shards // fan_in)))
    return replace(request, stream=f"{request.stream}-reduce", kind="reduce"), shards
