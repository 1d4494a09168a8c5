"""Checks the results that arrive for one step: whether they are valid and new."""

import json
import logging
from collections.abc import Iterator
from typing import Final

from metafleet.contracts.job import ShardResult, parse_result
from metafleet.contracts.signing import verify
from metafleet.errors import ContractError, OversizedError, SchemaError, StaleError
from metafleet.orchestrator.engine.attempt_counts import StepAttemptCounts

log = logging.getLogger(__name__)

_MAX_RESULT_BYTES: Final = 4 * 2**20


class ResultInbox:
    """Checks the results of one step. Not thread-safe.

    Args:
        name: the step's name, for messages.
        run: the run's uid.
        n_shards: number of shards of the step.
        signing_key: the key with which a worker's signature of a result is checked.
        attempt_counts: counters of the step's attempts. A refused result is counted here.
    """

    def __init__(
        self,
        name: str,
        *,
        run: str,
        n_shards: int,
        signing_key: str,
        attempt_counts: StepAttemptCounts,
    ) -> None:
        self._name, self._run, self._n_shards = name, run, n_shards
        self._signing_key, self._attempt_counts = signing_key, attempt_counts
        self._raws: dict[int, bytes] = {}
        self._unsound: dict[int, str] = {}  # by hash: each comes by the list and the ledger
        self._dealt_with: set[int] = set()  # hashes of results that did not count

    def parse(self, raw: bytes, *, epoch: int) -> Iterator[ShardResult]:
        """Yield the result in ``raw`` if it is valid and of this step under ``epoch``."""
        try:
            if len(raw) > _MAX_RESULT_BYTES:
                raise OversizedError(f"a result of {len(raw)} bytes; at most {_MAX_RESULT_BYTES}")
            result = parse_result(json.loads(raw))
            verify(result, self._signing_key)
            if (result.run, result.epoch) != (self._run, epoch):
                raise StaleError(f"a result of run={result.run} epoch={result.epoch}")
            if result.shard >= self._n_shards:
                raise SchemaError(f"shard={result.shard} of {self._n_shards} shards")
        except (ContractError, ValueError, RecursionError) as error:
            log.warning("%s: a result was refused: %s", self._name, error)
            if hash(raw) not in self._unsound:
                self._unsound[hash(raw)] = str(error)
                kind = type(error) if isinstance(error, ContractError) else SchemaError
                self._attempt_counts.reject_unknown(kind.reason)
            return
        self._raws[result.shard] = raw
        yield result

    def raw_of(self, shard: int) -> bytes:
        """Return the last valid result of a shard in its raw form."""
        return self._raws[shard]

    def why_unsound(self, raw: bytes) -> str:
        """Return why ``parse`` refused ``raw``."""
        return self._unsound[hash(raw)]

    def is_first(self, raw: bytes) -> bool:
        """Return whether a result is processed for the first time; ``raw`` is the result.

        If Redis fails before a processed result is deleted from Redis, the result is read again. It
        must not be counted twice.
        """
        is_first = hash(raw) not in self._dealt_with
        self._dealt_with.add(hash(raw))
        return is_first
