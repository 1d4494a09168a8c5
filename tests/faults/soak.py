"""Runs under a random killer, one after the other; each must end with the undisturbed bits.

    python -m tests.faults.soak [--seconds 600] [--seed 1]

Three workers, two of them on the orchestrator's host and one that shares no memory with it, reach
Redis through a proxy. Prints what was broken and what came of it; exits with 1 when anything is not
as it must be.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import redis

from metafleet.contracts.keys import queue_list
from metafleet.contracts.settings import Settings
from metafleet.db.records import RunRecord
from tests.faults.killer import Post, RandomKiller
from tests.fleet import wait_until
from tests.redis_server import RedisServer
from tests.running import SHARDS, Running
from tests.runs import assert_every_shard_once, config, read_jobs, undisturbed
from tests.tcp_proxy import TcpProxy

STEPS = 50
EXPERIMENT = config(
    outer={"steps": STEPS},
    learner={"inner_steps": 30},
    validation={"every": 0},
    test={"baselines": False},
    # the killer may hit one shard again and again
    engine={"checkpoint_every": 10, "max_attempts": 50},
)
QUIET_WITHIN_S = 20.0
RUN_TIMEOUT_S = 300.0
KEPT_BY_KOMBU = "mf:_kombu."
"""The names of queues: a few, which never expire."""


@dataclass
class Facts:
    """What a soak found."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    planned: int = 0
    accepted: int = 0
    retries: int = 0
    other_bits: int = 0
    keys_seen: int = 0
    without_ttl: set[str] = field(default_factory=set)
    left_over: list[str] = field(default_factory=list)
    orchestrator_mb: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_as_promised(self) -> bool:
        return (
            self.runs > 0
            and self.accepted == self.planned
            and not (self.other_bits or self.without_ttl or self.left_over)
        )

    def __str__(self) -> str:
        broken = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        memory = f"{self.orchestrator_mb[0]:.0f} -> {self.orchestrator_mb[-1]:.0f}"
        return "\n".join(
            [
                f"  seed {self.seed}, {self.seconds:.0f} s, {self.faults.total()} faults: {broken}",
                f"  runs {self.runs} of {STEPS} steps; {self.retries} further attempts",
                f"  same sha256 as undisturbed: {self.runs - self.other_bits} of {self.runs}",
                f"  shards accepted / planned: {self.accepted} / {self.planned}",
                f"  keys without TTL: {sorted(self.without_ttl) or 'none'} ({self.keys_seen} seen)",
                f"  left over: {self.left_over or 'nothing'}",
                f"  the orchestrator's memory after the first and the last run: {memory} MB",
                f"  {'as promised' if self.is_as_promised else 'NOT AS PROMISED'}",
            ]
        )


class Soak:
    """The surroundings of one soak."""

    def __init__(self, home: Path, *, seed: int) -> None:
        self.facts = Facts(seed)
        self._server = RedisServer()
        self._client = self._server.client()  # past the proxy: who looks is not to be broken
        self._proxy = TcpProxy(self._server.port)
        url = self._server.url.replace(f":{self._server.port}/", f":{self._proxy.port}/")
        self._settings = replace(
            Settings.load({"METAFLEET_HOME": str(home)}),
            broker_url=url,
            blobs_url=url,
            signing_key="soak-key",
            device="cpu",
            host_cache_dir=home / "memory",
        )
        far = replace(self._settings, host_cache_dir=home / "memory-of-another-host")
        posts = [Post("near0", self._settings), Post("near1", self._settings), Post("far0", far)]
        self._killer = RandomKiller(
            posts, self._server, self._proxy, seed=seed, look=self.look_for_eternal_keys
        )
        self._process = psutil.Process()

    def work(self, seconds: float) -> Facts:
        """Break things for so long; the last run then ends in peace."""
        expected = undisturbed(self._settings, EXPERIMENT)
        began_s = time.monotonic()
        self._killer.start()
        has_stopped = False
        while not has_stopped:
            running = Running(self._settings, EXPERIMENT)
            while not running.has_ended and time.monotonic() - began_s < seconds:
                time.sleep(0.05)
            has_stopped = time.monotonic() - began_s >= seconds
            if has_stopped:
                self._killer.stop()
            self._account(running, expected)
        self.facts.faults = self._killer.faults
        self.facts.seconds = time.monotonic() - began_s
        self._await_gone("messages", self._messages)
        self.look_for_eternal_keys()
        return self.facts

    def close(self) -> None:
        self._killer.close()
        self._client.close()
        self._proxy.close()
        self._server.stop()

    def look_for_eternal_keys(self) -> None:
        """Note keys that would stay for ever; quiet while Redis is away."""
        try:
            keys = [key.decode() for key in self._client.scan_iter(count=1000)]
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                pipeline.pttl(key)
            lives = dict(zip(keys, pipeline.execute(), strict=True))
        except redis.RedisError:
            return
        self.facts.keys_seen += len(keys)
        self.facts.without_ttl |= {
            key for key, pttl in lives.items() if pttl == -1 and not key.startswith(KEPT_BY_KOMBU)
        }

    def _account(self, running: Running, expected: str) -> None:
        facts, settings = self.facts, self._settings
        sha256 = running.result(RUN_TIMEOUT_S).checkpoint_sha256
        facts.runs += 1
        facts.other_bits += sha256 != expected
        facts.planned += STEPS * SHARDS
        jobs = read_jobs(settings, running.run)
        facts.accepted += len({(job.step, job.shard) for job in jobs})
        facts.retries += sum(step.retries for step in running.watcher.steps)
        try:
            assert_every_shard_once(settings, running.run, steps=STEPS, shards=SHARDS)
        except AssertionError as error:
            facts.left_over.append(f"run {running.run.id} counts otherwise: {error}")
        self._await_gone(f"blobs of run {running.run.id}", lambda: self._blobs(running.run))
        self._await_gone(f"files of run {running.run.id}", self._files)
        facts.orchestrator_mb.append(self._process.memory_info().rss / 1e6)

    def _blobs(self, run: RunRecord) -> dict[str, int]:
        """Bytes in the store, by key."""
        keys = [
            key
            for kind in ("blob", "state")
            for key in self._client.scan_iter(f"mf:{{{run.uid}}}*:{kind}:*", count=1000)
        ]
        return {key.decode(): int(self._client.strlen(key)) for key in keys}

    def _files(self) -> list[str]:
        """What the orchestrator shared with workers of its host."""
        return [path.name for path in self._settings.host_cache_dir.glob("run-*/*")]

    def _messages(self) -> list[str]:
        """The queue, while there is something in it."""
        queue = queue_list("inner.cpu", self._settings.signing_key)
        return [queue] if self._client.exists(queue) else []

    def _await_gone(self, what: str, find: Callable[[], Collection[str]]) -> None:
        found: Collection[str] = ()

        def is_gone() -> bool:
            nonlocal found
            try:
                found = find()
            except redis.RedisError:
                return False
            return not found

        try:
            wait_until(is_gone, what, QUIET_WITHIN_S)
        except AssertionError:
            self.facts.left_over.append(f"{what}: {found}")


@contextmanager
def soak(home: Path, *, seed: int) -> Iterator[Soak]:
    opened = Soak(home, seed=seed)
    try:
        yield opened
    finally:
        opened.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, soak(Path(home), seed=options.seed) as opened:
        facts = opened.work(options.seconds)
    sys.stdout.write(f"{facts}\n")
    sys.exit(not facts.is_as_promised)


if __name__ == "__main__":
    main()
