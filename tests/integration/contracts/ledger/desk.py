"""The ledger of one run, as its workers and its owner use it."""

from typing import Any

import redis

from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.keys import RunKeys, StepKeys
from metafleet.contracts.ledger import JobLedger, RunLedger
from tests.messages import make_job

LEASE_MS = 5000
SHORT_MS = 100


class Desk:
    """Where the workers of one owned run come to."""

    def __init__(self, client: redis.Redis, uid: str, owner: RunLedger) -> None:
        self.client, self.uid, self.owner = client, uid, owner
        self.run = RunKeys(uid)

    def step(self, number: int = 7, epoch: int = 1) -> StepKeys:
        return self.run.step("train", number, epoch=epoch)

    def job(self, **changes: Any) -> InnerLoopJob:
        return make_job(run=self.uid, **changes)

    def worker(self, nonce: str = "worker", **changes: Any) -> JobLedger:
        return JobLedger(self.client, self.job(**changes), nonce)

    def keys(self) -> dict[str, int]:
        """Every key of the run with its milliseconds to live."""
        names = self.client.scan_iter(f"mf:{{{self.uid}}}:*")
        return {name.decode(): self.client.pttl(name) for name in names}

    def keys_of_steps(self) -> set[str]:
        kept = {self.run.epoch, self.run.holder, self.run.lease, self.run.discarded}
        return set(self.keys()) - kept - self.closed_keys()

    def closed_keys(self) -> set[str]:
        return {self.run.closed("train", epoch=epoch) for epoch in (1, 2)}
