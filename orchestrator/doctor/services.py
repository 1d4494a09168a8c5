"""Checks of services on the network: Redis, the database, the workers."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from metafleet.contracts.connections import Client, connect, redis_errors
from metafleet.contracts.presence import WorkerInfo, list_workers
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.repositories import RunQueue, ServerRepository
from metafleet.db.schema import status
from metafleet.orchestrator.doctor.finding import Finding, fail, ok, run_check, warn
from metafleet.orchestrator.embedded.server_binary import MIN_VERSION
from metafleet.orchestrator.engine.incompatible_workers import find_mismatch
from metafleet.passwords import redact_url

_TIMEOUT_S = 3.0
_START_ONE = "start one with `metafleet up`, or `metafleet worker` on any machine"
_LEAST_KEY_BYTES = 16
"""Minimum length of a signing key; a shorter one is probably a word."""
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def check_services(settings: Settings) -> list[Finding]:
    """Check the database and Redis, and the workers if Redis answers."""
    database = run_check("database", lambda: [_database(settings)])
    if all(finding.severity == "ok" for finding in database):
        database += run_check("queue", lambda: _queue(settings))
    return [*database, *_redis(settings)]


def _database(settings: Settings) -> Finding:
    found = status(settings.database_url)
    shown = redact_url(settings.database_url)
    if found.is_current:
        return ok("database", f"{shown} is at revision {found.revision}")
    if found.is_newer:
        return fail(
            "database",
            f"{shown} is at revision {found.revision}, newer than this version's {found.head}",
            "install the version of metafleet that upgraded it",
        )
    if not found.has_tables:
        return ok("database", f"{shown} is empty; tables are made by `metafleet db upgrade`")
    return fail(
        "database",
        f"{shown} is at revision {found.revision}, this version needs {found.head}",
        "run `metafleet db upgrade`",
    )


def _queue(settings: Settings) -> list[Finding]:
    if not status(settings.database_url).has_tables:
        return []
    with (
        Database.open(settings.database_url) as database,
        database.session(read_only=True) as session,
    ):
        servers = ServerRepository(session).list_alive()
        n_waiting = RunQueue(session).count_waiting()
    if n_waiting and not servers:
        return [warn("queue", f"{n_waiting} queued runs, and no server", "start `metafleet serve`")]
    if not servers:
        return []
    names = ", ".join(f"{server.host}:{server.pid}" for server in servers)
    return [ok("queue", f"{n_waiting} runs wait; {len(servers)} servers: {names}")]


def _redis(settings: Settings) -> list[Finding]:
    if not settings.broker_url:
        return [
            warn(
                "redis",
                "none is configured and no embedded stack runs",
                "run `metafleet up`, set METAFLEET_BROKER_URL, or submit with --in-process",
            )
        ]
    findings = run_check("redis", lambda: _server("broker", str(settings.broker_url)))
    if settings.blobs_url and settings.blobs_url != settings.broker_url:
        findings += run_check("redis", lambda: _server("blobs", str(settings.blobs_url)))
    if all(finding.severity != "fail" for finding in findings):
        findings += _signing(settings)
        findings += run_check("workers", lambda: _workers(settings))
    return findings


def _server(role: str, url: str) -> list[Finding]:
    with redis_errors(url), connect(url, socket_timeout_s=_TIMEOUT_S, retries=0) as client:
        began = time.perf_counter()
        client.ping()
        ping_ms = 1e3 * (time.perf_counter() - began)
        facts = cast(dict[str, Any], client.info())
        return _judge_server(role, redact_url(url), ping_ms, facts)


def _judge_server(role: str, shown: str, ping_ms: float, facts: dict[str, Any]) -> list[Finding]:
    kind = facts.get("server_name", "redis")
    # for compatibility, Valkey reports Redis 7.2 here, and its own version in another field
    version = str(facts.get("valkey_version") or facts.get("redis_version"))
    findings = [ok("redis", f"{role} at {shown}: {kind} {version}, answers in {ping_ms:.1f} ms")]
    if tuple(int(part) for part in version.split(".")[:2]) < MIN_VERSION:
        wanted = ".".join(map(str, MIN_VERSION))
        findings.append(
            fail("redis", f"{role} has version {version}", f"install {wanted} or newer")
        )
    policy = facts.get("maxmemory_policy")
    if policy != "noeviction":
        findings.append(
            fail(
                "redis",
                f"{role} has maxmemory-policy {policy}: it may throw jobs and tensors away",
                "set maxmemory-policy noeviction in its configuration",
            )
        )
    return findings


def _signing(settings: Settings) -> list[Finding]:
    n_bytes = len(settings.signing_key.encode())
    is_local = any(host in str(settings.broker_url) for host in _LOOPBACK)
    if n_bytes >= _LEAST_KEY_BYTES or (is_local and not n_bytes):
        return []
    what = f"are signed with {n_bytes} bytes, which can be guessed" if n_bytes else "are not signed"
    return [
        warn(
            "redis",
            f"messages {what}: any process that can write to Redis can send gradients",
            "set METAFLEET_SIGNING_KEY to the same secret for the orchestrator and every worker, "
            "such as one of `openssl rand -hex 32`",
        )
    ]


def _workers(settings: Settings) -> list[Finding]:
    url = str(settings.broker_url)
    with redis_errors(url), connect(url, socket_timeout_s=_TIMEOUT_S, retries=0) as client:
        found = _alive(client)
    if not found:
        return [warn("workers", "no worker is alive", _START_ONE)]
    return [_judge_worker(worker, settings.signing_key) for worker in found] + _judge_fingerprints(
        found
    )


def _alive(client: Client) -> list[WorkerInfo]:
    return [worker for worker in list_workers(client) if worker.is_alive]


def _judge_worker(worker: WorkerInfo, signing_key: str) -> Finding:
    name = f"{worker.name} (pid {worker.pid}, {worker.device}, version {worker.version})"
    if mismatch := find_mismatch(worker, signing_key):
        text, _, remedy = mismatch.partition("; ")
        return fail("workers", f"{name} {text}", remedy)
    return ok("workers", f"{name} is alive")


def _judge_fingerprints(workers: Sequence[WorkerInfo]) -> list[Finding]:
    """Compare workers of one queue: a strict run refuses those that differ from its first."""
    findings = []
    for queues in sorted({worker.queues for worker in workers}):
        peers = [worker for worker in workers if worker.queues == queues]
        counts = Counter(worker.fingerprint for worker in peers)
        usual = counts.most_common(1)[0][0]
        findings += [_judge_odd(w, usual) for w in peers if w.fingerprint != usual]
    return findings


def _judge_odd(worker: WorkerInfo, usual: str) -> Finding:
    theirs, others = json.loads(worker.fingerprint), json.loads(usual)
    differing = ", ".join(
        f"{key} {theirs.get(key)!r} not {others.get(key)!r}"
        for key in sorted(theirs.keys() | others.keys())
        if theirs.get(key) != others.get(key)
    )
    return warn(
        "workers",
        f"{worker.name} computes other bits than most of its queue: {differing}",
        "install the same versions and set ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY alike, or "
        "submit with --set engine.numerics=relaxed",
    )
