"""Takes results in: each is checked against what was asked before it may touch the sum."""

from collections.abc import Mapping

import torch

from contracts.blobs import BlobStore
from contracts.codec import Schema, check_digest, decode_tensors, schema_of
from contracts.job import ShardResult
from contracts.keys import StepKeys
from metafleet.errors import ContractError, StaleError
from metafleet.learners.base import EpisodeMetrics
from metafleet.params import Params, flatten_state
from metafleet.reduction import TreeReducer
from orchestrator.engine.step import JobFacts, Shard, StepRequest


class Collector:
    """The results of one step.

    Args:
        request: the step.
        shards: how it was cut.
        blobs: where sums are fetched from.
    """

    def __init__(
        self,
        request: StepRequest,
        shards: tuple[Shard, ...],
        *,
        blobs: BlobStore,
    ) -> None:
        self._request, self._shards = request, shards
        self._blobs = blobs
        self._schema = schema_of(flatten_state(request.state))  # a sum is shaped like the state
        self._reducer = TreeReducer(len(shards)) if request.kind == "gradient" else None
        self._metrics: dict[int, tuple[EpisodeMetrics, ...]] = {}
        self._jobs: dict[int, JobFacts] = {}

    def add(self, result: ShardResult, keys: StepKeys) -> None:
        """Check an "ok" result, fetch its sum by the step's ``keys`` and add it.

        Raises:
            ContractError: it is not what was asked for, or damaged; nothing was added.
            BlobMissingError: its sum is gone from the blob store.
        """
        shard = self._shard_of(result)
        metrics = _metrics_of(result, shard)
        if self._reducer is not None:
            sums = self._fetch(result, keys)
            self._reducer.add(shard.index, sums)
        self._metrics[shard.index] = metrics
        self._jobs[shard.index] = JobFacts(
            shard=shard.index,
            attempt=result.attempt,
            worker=result.worker,
            device=result.device,
            queue_wait_s=result.queue_wait_s,
            compute_s=result.compute_s,
            payload_bytes=result.blob_bytes,
            episodes=shard.n_episodes,
        )

    def sums(self) -> Params:
        """Return the sum over the shards that came; empty for an evaluation."""
        return self._reducer.result(partial=True) if self._reducer is not None else {}

    def metrics(self) -> tuple[EpisodeMetrics, ...]:
        """Return the metrics of the episodes that came, in order of episode."""
        return tuple(m for index in sorted(self._metrics) for m in self._metrics[index])

    def jobs(self) -> tuple[JobFacts, ...]:
        """Return how each shard that came was done, in order of shard."""
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

    def _fetch(self, result: ShardResult, keys: StepKeys) -> Params:
        limit = _encoded_limit(self._schema)
        if not 0 < result.blob_bytes <= limit:
            raise ContractError(
                f"a sum of {result.blob_bytes} bytes was declared, the model allows up to {limit}"
            )
        key = keys.blob(result.shard, result.attempt)
        data = self._blobs.get(key, result.blob_bytes)
        check_digest(data, result.blob_sha256, what=f"the sum of shard {result.shard}")
        sums = decode_tensors(data, self._schema)
        _check_finite(sums, result)
        self._blobs.delete(key, result.blob_bytes)
        return sums


def _metrics_of(result: ShardResult, shard: Shard) -> tuple[EpisodeMetrics, ...]:
    counts = {len(result.losses), len(result.accuracies) or shard.n_episodes}
    if counts != {shard.n_episodes}:
        raise ContractError(
            f"{len(result.losses)} losses and {len(result.accuracies)} accuracies came for "
            f"{shard.n_episodes} episodes"
        )
    accuracies = result.accuracies or (None,) * shard.n_episodes
    return tuple(map(EpisodeMetrics, result.losses, accuracies))


def _encoded_limit(schema: Schema) -> int:
    """Bound the encoded length: the tensors, and a header of names and numbers."""
    tensors = sum(
        torch.Size(shape).numel() * getattr(torch, dtype).itemsize
        for dtype, shape in schema.values()
    )
    return int(tensors) + sum(len(name.encode()) + 512 for name in schema) + 4096


def _check_finite(sums: Mapping[str, torch.Tensor], result: ShardResult) -> None:
    for name, tensor in sums.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ContractError(
                f"{name!r} of shard {result.shard} from {result.worker} is not finite"
            )
