"""False results: each is refused for its own reason, and another worker computes its shard."""

import base64
import json
import threading
from collections.abc import Callable
from typing import cast

import torch

from metafleet.contracts.attempt_outcomes import AttemptOutcome
from metafleet.contracts.connections import connect
from metafleet.contracts.job import InnerLoopJob, ShardResult, parse_job
from metafleet.contracts.keys import queue_list
from metafleet.contracts.ledger import JobLedger
from metafleet.contracts.settings import Settings
from metafleet.contracts.signing import sign
from metafleet.db.engine import Database
from metafleet.db.repositories import AttemptCountRepository
from metafleet.workers.inner_loop import InnerLoopRunner
from tests.fleet import Fleet
from tests.running import EXPERIMENT, Running
from tests.runs import config

Lie = Callable[["Liar", InnerLoopJob, ShardResult], str]


class Liar:
    """A worker with the key and the code that tells each lie once, then leaves."""

    def __init__(self, settings: Settings) -> None:
        self.key = settings.signing_key
        self._client = connect(str(settings.broker_url))
        self._runner = InnerLoopRunner(settings)
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive(), "not every lie was told"

    def signed(self, result: ShardResult, **changes: object) -> str:
        return sign(result.model_copy(update=changes), self.key).model_dump_json()

    def not_finite(self, job: InnerLoopJob, result: ShardResult) -> str:
        _, schema = self._runner._workloads.get(job)
        sums = {name: torch.full(shape, torch.nan) for name, (_, shape) in schema.items()}
        ref = self._runner._put(job, sums)
        changes = {"blob_bytes": ref.n_bytes, "blob_seal": ref.seal, "blob_digest": ref.digest}
        return self.signed(result, **changes)

    def _work(self) -> None:
        for lie in LIES.values():
            while not self._is_told(lie):  # to a shard that is done already, say
                pass

    def _is_told(self, lie: Lie) -> bool:
        popped = self._client.brpop([queue_list("inner.cpu", self.key)], timeout=5)
        if popped is None:
            return False
        message = json.loads(cast(tuple[bytes, bytes], popped)[1])
        job = parse_job(json.loads(base64.b64decode(message["body"]))[0][0])
        ledger = JobLedger(self._client, job, nonce=f"liar/{job.label}")
        is_begun = ledger.start()[0] == "ok"
        return is_begun and ledger.commit(lie(self, job, self._sound(job))) == "ok"

    def _sound(self, job: InnerLoopJob) -> ShardResult:
        """A result that is wrong in nothing but the sum, which is nowhere."""
        return ShardResult(
            run=job.run,
            epoch=job.epoch,
            stream=job.stream,
            step=job.step,
            shard=job.shard,
            attempt=job.attempt,
            status="ok",
            worker="liar:1",
            device="cpu",
            fingerprint=job.fingerprint,
            blob_bytes=job.state_bytes,
            blob_digest="0" * 64,
            losses=(0.5,) * job.n_episodes,
        )


LIES: dict[str, Lie] = {
    "signature": lambda _, __, result: sign(result, "another key").model_dump_json(),
    "protocol": lambda liar, _, result: liar.signed(result, protocol=1),
    "schema": lambda liar, _, result: liar.signed(result)[:-20],
    "oversized": lambda liar, _, result: liar.signed(result) + " " * 5 * 2**20,
    "stale": lambda liar, _, result: liar.signed(result, epoch=result.epoch + 1),
    "length": lambda liar, _, result: liar.signed(result, blob_bytes=2**50),
    "missing_blob": lambda liar, _, result: liar.signed(result),
    "fingerprint": lambda liar, _, result: liar.signed(result, fingerprint="an abacus"),
    "non_finite": lambda liar, job, result: liar.not_finite(job, result),
}
"""By the reason for which each is refused."""


def test_results_that_lie(fleet: Fleet, expected: str) -> None:
    tree = EXPERIMENT.to_json()
    sections = {name: tree[name] for name in ("outer", "learner", "validation", "test")}
    patient = config(**sections, engine={"max_attempts": 20})
    fleet.start(1)
    liar = Liar(fleet.settings)
    running = Running(fleet.settings, patient)

    running.disturb(liar.start)
    running.result()
    liar.join()

    running.assert_undisturbed(
        expected, f"results that lie, in {len(LIES)} ways", "each refused for its own reason"
    )
    with (
        Database.open(fleet.settings.database_url) as database,
        database.session(read_only=True) as session,
    ):
        totals = AttemptCountRepository(session).totals(running.run.id)
    refused = {each.reason: each.n for each in totals if each.outcome == AttemptOutcome.REJECTED}
    assert refused == dict.fromkeys(LIES, 1)
