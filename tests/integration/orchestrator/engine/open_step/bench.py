"""An open step, and workers whose answers a test writes."""

from collections.abc import Sequence
from typing import Any

import redis

from metafleet.contracts.attempt_outcomes import REASONS, AttemptOutcome
from metafleet.contracts.exchange import Exchange
from metafleet.contracts.job import InnerLoopJob, ShardResult
from metafleet.contracts.keys import RunKeys, queue_list
from metafleet.contracts.ledger import JobLedger, RunLedger
from metafleet.contracts.signing import sign
from metafleet.db.engine import Database
from metafleet.db.records import AttemptCountRecord, AttemptRecord
from metafleet.db.repositories import AttemptCountRepository, AttemptRepository
from metafleet.orchestrator.engine.attempt_counts import AttemptCounts
from metafleet.orchestrator.engine.open_step import OpenStep
from metafleet.orchestrator.engine.queue_mark import QueueMark
from metafleet.orchestrator.engine.replies import wait_for_results
from metafleet.orchestrator.engine.step import cut
from metafleet.orchestrator.recording.rows import EpochRow, write_rows
from metafleet.params import digest
from tests.databases import add_run
from tests.memory_blobs import MemoryBlobs
from tests.messages import make_request, make_result, make_sums, new_uid, with_blob

KEY = "key"
QUEUE = "inner.cpu"
SIZES = (3, 3, 3, 1)


class Bench:
    """A step of four shards that are sent, and workers whose answers the test writes.

    What the engine counts goes into a database, as it does in a run.
    """

    def __init__(
        self, client: redis.Redis, database: Database | None = None, *, max_attempts: int = 2
    ) -> None:
        self._database = database
        self._run = add_run(database) if database is not None else None
        self.attempt_counts = (
            AttemptCounts(self._write) if database is not None else AttemptCounts()
        )
        self.client, self.keys = client, RunKeys(new_uid())
        self.blobs = MemoryBlobs()
        self.ledger = ledger = RunLedger(client, self.keys.run, "owner")
        ledger.claim(lease_ms=60_000)
        ledger.take_over(1, lease_ms=60_000)
        request = make_request()
        self.step = OpenStep(
            request,
            cut(request, 3),
            keys=self.keys,
            marks={QUEUE: QueueMark(client, queue_list(QUEUE, KEY))},
            client=client,
            exchange=Exchange(self.blobs, None),
            ledger=ledger,
            signing_key=KEY,
            max_attempts=max_attempts,
            attempt_counts=self.attempt_counts,
        )
        self.step.move_to(1)
        self.step_keys = self.keys.step("train", 7, epoch=1)
        self.jobs = self.send([0, 1, 2, 3])

    def _write(
        self, attempts: Sequence[AttemptRecord], counts: Sequence[AttemptCountRecord]
    ) -> None:
        assert self._database is not None and self._run is not None
        rows = [EpochRow(0, row) for row in (*attempts, *counts)]
        write_rows(self._database, self._run, rows, epoch=0, own_from=0)

    def counted(self) -> dict[tuple[str, str], int]:
        """What the database has after the step's end, but for attempts sent and counted."""
        assert self._database is not None and self._run is not None
        self.step.close()
        self.attempt_counts.flush()
        with self._database.session(read_only=True) as session:
            totals = AttemptCountRepository(session).totals(self._run.id)
        assert all(t.reason in REASONS[AttemptOutcome(t.outcome)] for t in totals if t.reason), (
            totals
        )
        usual = (AttemptOutcome.SENT, AttemptOutcome.COUNTED)
        return {(t.outcome, t.reason): t.n for t in totals if t.outcome not in usual}

    def rows(self) -> tuple[AttemptRecord, ...]:
        assert self._database is not None and self._run is not None
        with self._database.session(read_only=True) as session:
            return AttemptRepository(session).list(self._run.id)

    def send(self, shards: list[int]) -> dict[int, InnerLoopJob]:
        jobs = self.step.jobs(
            dict.fromkeys(shards, QUEUE),
            plan="a" * 64,
            state="b" * 64,
            state_bytes=1,
            fingerprint="",
            deadline_s=60.0,
        )
        return {job.shard: job for job in jobs}

    def result(self, shard: int, /, **changes: Any) -> ShardResult:
        """A sound answer to the newest job of a shard, with its sum in the store."""
        attempt = self.jobs[shard].attempt
        losses = (0.5,) * SIZES[shard]
        fields = {"shard": shard, "attempt": attempt, "losses": losses, "accuracies": losses}
        result, data = with_blob(make_result(run=self.keys.run, **fields), make_sums(shard))
        self.blobs.put(self.step_keys.blob(shard, attempt), data, ttl_s=60)
        return result.model_copy(update=changes)

    def commit(self, shard: int, text: str) -> None:
        worker = JobLedger(self.client, self.jobs[shard], f"worker {shard}")
        assert worker.start()[0] == "ok"
        assert worker.commit(text) == "ok"

    def answer(self, shard: int, /, **changes: Any) -> None:
        self.commit(shard, sign(self.result(shard, **changes), KEY).model_dump_json())

    def take_in(self) -> list[int]:
        """Take what woke us, then what did not; returns the shards due to be sent."""
        for _, result in wait_for_results(self.client, [self.step], 0.05):
            self.step.take(result, processes_alive=2)
        return self.step.review(alive={QUEUE: 2}, processes_alive=2)

    def finish(self) -> str:
        """Do what is open again and soundly; returns the digest of the sum."""
        open_shards = self.step.book.open_shards
        self.jobs.update(self.send(open_shards))
        for shard in open_shards:
            self.answer(shard)
        self.take_in()
        assert self.step.book.is_complete
        return digest(self.step.outcome(2).sums)
