"""Collects results: checks each against its request before adding it to the sum."""

import hashlib
import math
from collections.abc import Iterable
from typing import ClassVar

from metafleet.contracts.codec import Buffer, WireDtype
from metafleet.contracts.exchange import Exchange
from metafleet.contracts.job import BlobRef, ShardResult
from metafleet.contracts.keys import StepKeys
from metafleet.errors import ContractError, LengthError, StaleError
from metafleet.learners.base import EpisodeMetrics
from metafleet.orchestrator.engine.computed import Computed
from metafleet.orchestrator.engine.sending import Sending
from metafleet.orchestrator.engine.step import AnyRequest, JobFacts, Shard
from metafleet.orchestrator.engine.sum_form import SumForm
from metafleet.params import Params
from metafleet.reduction import TreeReducer


class Collector:
    """Collects the results of one step, and adds up the gradient sums of its shards.

    Args:
        request: the step.
        shards: the shards of the step.
        exchange: fetches gradient sums from the stores.
        wire_dtype: type to which float32 tensors of sums are converted for sending.
        defer: whether workers will add up the sums. If so, the collector only records where the
            sums are.
    """

    _noun: ClassVar[str] = "a sum"

    def __init__(
        self,
        request: AnyRequest,
        shards: tuple[Shard, ...],
        *,
        exchange: Exchange,
        wire_dtype: WireDtype = "float32",
        defer: bool = False,
    ) -> None:
        self._request, self._shards = request, shards
        self._exchange, self._defer = exchange, defer
        self._form = SumForm(request.state, wire_dtype)
        self._reducer = TreeReducer(len(shards)) if request.kind in ("gradient", "reduce") else None
        self._deferred: dict[int, BlobRef] = {}
        self._read: dict[int, BlobRef] = {}
        """Sums that were added but are still in their store."""
        self._metrics: dict[int, tuple[EpisodeMetrics, ...]] = {}
        self._jobs: dict[int, JobFacts] = {}
        self._watched: int | None = None
        self.seen: Computed | None = None
        """Digest of the watched shard's result; None before it arrives."""

    def watch(self, shard: int) -> None:
        """Keep a digest of a shard's result."""
        self._watched = shard

    def result_bytes(self, shard: int) -> int:
        """Return the length of an encoded result of a shard: that of a sum, for all the same."""
        return self._form.n_bytes

    def add(self, result: ShardResult, keys: StepKeys, *, sending: Sending | None = None) -> None:
        """Check a result with status "ok", fetch its gradient sum, and add the sum.

        If this call raises an error, nothing was added. After a successful call, ``drop_read``
        deletes the sum from the store.

        Args:
            result: the result.
            keys: the step's keys, by which the sum is found.
            sending: when the attempt was sent; None if unknown.

        Raises:
            ContractError: the result does not match the request, or is damaged.
            BlobMissingError: the sum is no longer in the blob store.
        """
        shard = self._shard_of(result)
        metrics = self._metrics_of(result, shard)
        if self._reducer is not None:
            ref = self._ref_of(result, keys)
            is_watched = shard.index == self._watched
            # read once: a direct transfer returns its blob only once, and adding may change it
            data = self._read_sum(shard.index, ref) if is_watched or not self._defer else None
            seen = _digest(result, data) if is_watched and data is not None else None
            if data is None or self._defer:
                self._deferred[shard.index] = ref
            else:
                self._add(shard.index, ref, data)
            self.seen = seen or self.seen
        self._metrics[shard.index] = metrics
        self._note_job(result, shard, sending)

    def _note_job(self, result: ShardResult, shard: Shard, sending: Sending | None) -> None:
        self._jobs[shard.index] = JobFacts(
            shard=shard.index,
            attempt=result.attempt,
            worker=result.worker,
            device=result.device,
            queue_wait_s=result.queue_wait_s,
            compute_s=result.compute_s,
            payload_bytes=result.blob_bytes,
            episodes=shard.n_episodes,
            sent_us=sending.sent_us if sending else None,
            round_trip_s=sending.age_s if sending else math.nan,
        )

    @property
    def deferred(self) -> tuple[BlobRef, ...]:
        """References to the deferred sums, in order of shard."""
        return tuple(self._deferred[shard] for shard in sorted(self._deferred))

    def add_deferred(self) -> None:
        """Add up the deferred sums in this process, for a step whose sums workers could not add up.

        Raises:
            ContractError, BlobMissingError: for the same reasons as ``add``.
        """
        for shard in sorted(self._deferred):
            ref = self._deferred[shard]
            self._add(shard, ref, self._read_sum(shard, ref))
            del self._deferred[shard]
        self.drop_read()

    def drop_deferred(self) -> None:
        """Delete the deferred sums, which workers have added up."""
        self._drop(self._deferred)

    def drop_read(self) -> None:
        """Delete the sums that were added. Call it again if their store was unreachable."""
        self._drop(self._read)

    def discard(self, keys: Iterable[str]) -> None:
        """Delete unneeded sums from the blob store. Missing ones are no error."""
        longest = max(map(self.result_bytes, range(len(self._shards))))
        for key in keys:
            self._exchange.delete(BlobRef(key=key, n_bytes=longest))

    def sums(self) -> Params:
        """Return the sum over the shards that arrived; empty for an evaluation."""
        if self._reducer is None:
            return {}
        return self._form.split(self._reducer.result(partial=True))

    def metrics(self) -> tuple[EpisodeMetrics, ...]:
        """Return the metrics of the episodes that arrived, in order of episode."""
        return tuple(m for index in sorted(self._metrics) for m in self._metrics[index])

    def jobs(self) -> tuple[JobFacts, ...]:
        """Return the facts about the jobs of the shards that arrived, in order of shard."""
        return tuple(self._jobs[index] for index in sorted(self._jobs))

    def _shard_of(self, result: ShardResult) -> Shard:
        request = self._request
        if (result.stream, result.step) != (request.stream, request.step):
            raise StaleError(
                f"a result is for {result.stream} step {result.step}, "
                f"open is {request.stream} step {request.step}"
            )
        if result.shard >= len(self._shards):
            raise ContractError(f"shard={result.shard} of a step of {len(self._shards)} shards")
        return self._shards[result.shard]

    def _ref_of(self, result: ShardResult, keys: StepKeys) -> BlobRef:
        """Check the length of a result's sum and return where it must be."""
        n_bytes = self.result_bytes(result.shard)
        if result.blob_bytes != n_bytes:
            raise LengthError(
                f"{self._noun} of {result.blob_bytes} bytes was declared; expected {n_bytes}"
            )
        return result.blob(keys.blob(result.shard, result.attempt))

    def _metrics_of(self, result: ShardResult, shard: Shard) -> tuple[EpisodeMetrics, ...]:
        n_expected = shard.n_episodes * self._request.values_per_episode
        counts = {len(result.losses), len(result.accuracies) or n_expected}
        if counts != {n_expected}:
            raise LengthError(
                f"{len(result.losses)} losses and {len(result.accuracies)} accuracies came for "
                f"{shard.n_episodes} episodes; expected {n_expected} of each"
            )
        accuracies = result.accuracies or (None,) * n_expected
        return tuple(map(EpisodeMetrics, result.losses, accuracies))

    def _read_sum(self, shard: int, ref: BlobRef) -> Buffer:
        return self._exchange.get(ref, what=_what(shard))

    def _add(self, shard: int, ref: BlobRef, data: Buffer) -> None:
        assert self._reducer is not None
        decoded = self._form.decode(data, what=_what(shard))
        # data from the store are ours; the memory of a sealed file belongs to its worker
        self._reducer.add(shard, decoded, may_change=not ref.seal)
        # deleted later: if deleting failed here, the result would count as a failure
        self._read[shard] = ref

    def _drop(self, refs: dict[int, BlobRef]) -> None:
        for shard in list(refs):
            self._exchange.delete(refs[shard])
            del refs[shard]


def _what(shard: int) -> str:
    return f"the sum of shard {shard}"


def _digest(result: ShardResult, data: Buffer) -> Computed:
    sha = hashlib.sha256(repr((result.losses, result.accuracies)).encode())
    sha.update(data)
    return Computed(sha.hexdigest(), result.worker)
