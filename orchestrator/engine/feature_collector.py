"""Collects features: checks each result against its request before handing it on."""

import numpy as np

from metafleet.contracts.codec import decode_tensors, encoded_bytes
from metafleet.contracts.exchange import Exchange
from metafleet.contracts.job import BlobRef, ShardResult
from metafleet.contracts.keys import StepKeys
from metafleet.contracts.plan import ROWS
from metafleet.errors import NotFiniteError
from metafleet.learners.base import EpisodeMetrics
from metafleet.orchestrator.engine.collector import Collector
from metafleet.orchestrator.engine.sending import Sending
from metafleet.orchestrator.engine.step import EncodeRequest, Shard
from metafleet.params import Params


class FeatureCollector(Collector):
    """Collects the features of one step, and records which items were sent to be encoded.

    Args:
        request: the step.
        shards: the shards of the step.
        exchange: fetches features from the stores.
    """

    _noun = "a block of features"

    def __init__(
        self, request: EncodeRequest, shards: tuple[Shard, ...], *, exchange: Exchange
    ) -> None:
        super().__init__(request, shards, exchange=exchange)
        self._plan, self._hand_on = request.plan, request.take
        self.inputs: dict[int, BlobRef] = {}
        """Shard -> where its items are. ``drop_read`` deletes those of shards that are done."""

    def result_bytes(self, shard: int) -> int:
        """Return the length of the encoded features of a shard."""
        return encoded_bytes(self._plan.rows_schema(self._shards[shard].n_episodes))

    def add(self, result: ShardResult, keys: StepKeys, *, sending: Sending | None = None) -> None:
        """Check a result with status "ok", fetch its features, and pass them to ``request.take``.

        If this raises an error, nothing was passed on.

        Raises:
            ContractError, BlobMissingError: for the same reasons as ``Collector.add``.
            DataError: the features cannot be stored.
        """
        shard = self._shard_of(result)
        self._metrics_of(result, shard)
        ref, what = self._ref_of(result, keys), f"the features of shard {shard.index}"
        data = self._exchange.get(ref, what=what)
        rows = decode_tensors(data, self._plan.rows_schema(shard.n_episodes))[ROWS].numpy()
        if not np.isfinite(rows).all():
            raise NotFiniteError(f"{what} are not finite")
        self._hand_on(shard.first_episode, rows.copy())
        self._read[shard.index] = ref
        self._note_job(result, shard, sending)

    def drop_read(self) -> None:
        """Delete features that were handed on, and the items of their shards."""
        super().drop_read()
        for shard in [shard for shard in self.inputs if shard in self._jobs]:
            self._exchange.delete(self.inputs[shard])
            del self.inputs[shard]

    def drop_inputs(self) -> None:
        """Delete the items of all shards."""
        for shard in list(self.inputs):
            self._exchange.delete(self.inputs[shard])
            del self.inputs[shard]

    def sums(self) -> Params:
        """Return no sums."""
        return {}

    def metrics(self) -> tuple[EpisodeMetrics, ...]:
        """Return no metrics."""
        return ()
