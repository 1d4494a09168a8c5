"""Adds up the sums of shards on workers, group by group.

The order of additions is a fixed binary tree over all shards. The fan-in is a power of two. A group
consists of fan-in consecutive shards (the last group may have fewer). The shards of a group are
therefore the leaves of a subtree. So two ways to add up the sums give the same bits: first within
each group and then over the groups, or all in one place.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from metafleet.contracts.job import BlobRef
from metafleet.errors import BlobMissingError, ContractError, FencedError, FleetError
from metafleet.orchestrator.engine.open_step import OpenStep
from metafleet.orchestrator.engine.step import Shard, StepOutcome, StepRequest

log = logging.getLogger(__name__)

T = TypeVar("T")


class SumsLostError(FleetError):
    """Committed sums were lost before they were added up."""


class OpenShards(Protocol):
    """Opens a step with the given shards and the blobs that each one reads."""

    def __call__(
        self,
        request: StepRequest,
        shards: tuple[Shard, ...],
        *,
        inputs: tuple[tuple[BlobRef, ...], ...],
    ) -> OpenStep:
        """Open the step."""
        ...


class TreeReduction:
    """Lets workers add up the gradient sums of a step.

    Args:
        open_step: opens the step whose jobs add up the sums.
        finish: waits for a step, and raises an error if the step failed.
        close: closes a step.
        persist: repeats a call until Redis can be reached.
        fan_in: number of sums that one worker adds up, a power of two.
        count_workers: returns the number of workers.
    """

    def __init__(
        self,
        open_step: OpenShards,
        finish: Callable[[OpenStep], None],
        close: Callable[[OpenStep], object],
        *,
        persist: Callable[[Callable[[], None]], None],
        fan_in: int,
        count_workers: Callable[[], int],
    ) -> None:
        self._open_step, self._finish, self._close = open_step, finish, close
        self._persist, self._fan_in, self._count_workers = persist, fan_in, count_workers

    def run(self, step: OpenStep, outcome: StepOutcome) -> StepOutcome:
        """Return ``outcome`` with the sums of ``step``.

        Raises:
            SumsLostError: workers could not add up the sums, and this process could not either,
                because a sum is lost or damaged.
            FencedError: the run has another owner.
        """
        if not outcome.missing_shards:
            refs = step.collector.deferred
            assert isinstance(step.request, StepRequest)  # only gradients are added up
            request, shards = _reduce_request(step.request, len(refs), self._fan_in)
            reduction = self._open_step(request, shards, inputs=_groups_of(refs, self._fan_in))
            try:
                self._finish(reduction)
                self._persist(step.collector.drop_deferred)
                return outcome.with_sums_of(reduction.outcome(self._count_workers()))
            except FencedError:
                raise
            except (BlobMissingError, FleetError) as error:
                log.warning("%s: adding up here instead: %s", reduction.name, error)
            finally:
                self._close(reduction)
        try:
            self._persist(step.collector.add_deferred)
        except (BlobMissingError, ContractError) as error:
            raise SumsLostError(str(error)) from error
        return replace(outcome, sums=step.collector.sums())


def _groups_of(items: Sequence[T], fan_in: int) -> tuple[tuple[T, ...], ...]:
    """Cut the items of the shards, in order, into aligned groups."""
    return tuple(tuple(items[first : first + fan_in]) for first in range(0, len(items), fan_in))


def _reduce_request(
    request: StepRequest, n_shards: int, fan_in: int
) -> tuple[StepRequest, tuple[Shard, ...]]:
    """Return the step that adds up ``request``'s sums, with one shard for each group."""
    shards = tuple(Shard(index, index, 1) for index in range(-(-n_shards // fan_in)))
    stream = f"{request.stream}-reduce"
    return replace(request, stream=stream, kind="reduce", values_per_episode=0), shards
