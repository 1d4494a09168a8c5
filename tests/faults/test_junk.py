"""Foreign data in shared places of Redis are counted, dropped and reported once."""

import base64
import json
import time
from dataclasses import replace
from pathlib import Path

from metafleet.contracts.connections import connect
from metafleet.contracts.keys import QUEUES_STARTED, WORKERS_INFO, WORKERS_SEEN, queue_list
from tests.fleet import Fleet, wait_until
from tests.redis_server import RedisServer
from tests.running import Running


def envelope(body: bytes, **headers: object) -> bytes:
    properties = {"delivery_tag": "1", "delivery_info": {}, "body_encoding": "base64"}
    text = base64.b64encode(body).decode()
    message = {"body": text, "content-type": "application/json", "content-encoding": "utf-8"}
    return json.dumps({**message, "headers": headers, "properties": properties}).encode()


OURS = {"task": "metafleet.inner_loop", "id": "1"}
DEPTHS = range(700, 1000, 10)  # about as deep as Python reads and writes
ENTRIES = [
    b"not json",
    b"[1,2]",
    b"",
    b"null",
    b"\xff\xfe{}",
    b"1" * 5000,
    b"[" * 100_000,
    b'{"body":"","properties":{}}',
    b'{"body":"!!!","headers":' + json.dumps(OURS).encode(),
    json.dumps({"body": "!!!", "headers": OURS, "properties": {}}).encode(),
    json.dumps({"body": 7, "headers": OURS, "properties": {}}).encode(),
    envelope(b"\x80", **OURS),
    envelope(b"[[],{},{}]", **OURS),
    envelope(b'[["job"],{},{}]', **OURS),
    envelope(b'[[{"a": NaN}],{},{}]', **OURS),
    envelope(b'[[{"a": 1e999}],{},{}]', **OURS),
    envelope(b"[[{}],{},{}]", **(OURS | {"id": None})),
    envelope(b"[[{}],{},{}]", **(OURS | {"task": "celery.backend_cleanup"})),
    envelope(b"[[{}],{},{}]", **(OURS | {"timelimit": "x", "eta": "yesterday"})),
    *(envelope(b'[[{"a":' + b"[" * n + b"]" * n + b"}],{},{}]", **OURS) for n in DEPTHS),
    b"x" * (5 * 2**20),
]


def test_entries_of_the_queue_that_are_no_jobs(standing_fleet: Fleet, expected: str) -> None:
    fleet = standing_fleet
    queue = queue_list("inner.cpu", fleet.settings.signing_key)
    running = Running(fleet.settings)

    def litter() -> None:
        with connect(str(fleet.settings.broker_url)) as client:
            for entry in ENTRIES * 2:
                client.lpush(queue, entry)

    running.disturb(litter)

    running.assert_undisturbed(expected, "junk in the queue", "dropped, counted, told of once")
    assert [worker.process.poll() for worker in fleet.workers] == [None, None]
    logs = [worker.log.read_text() for worker in fleet.workers]
    assert any("no JSON" in log for log in logs)
    for log in logs:
        assert log.count("an entry that is not a job (no JSON): b") <= 1


def test_something_else_in_place_of_the_queue(standing_fleet: Fleet, expected: str) -> None:
    fleet = standing_fleet
    queue = queue_list("inner.cpu", fleet.settings.signing_key)
    running = Running(fleet.settings)

    def replace_queue() -> None:
        with connect(str(fleet.settings.broker_url)) as client:
            client.set(queue, "junk")
            wait_until(lambda: client.type(queue) != b"string", "the junk to be dropped")

    running.disturb(replace_queue)

    running.assert_undisturbed(expected, "a string in place of the queue", "dropped, sent again")
    assert [worker.process.poll() for worker in fleet.workers] == [None, None]


def test_other_types_under_every_key(
    fleet: Fleet, redis_server: RedisServer, expected: str
) -> None:
    # tensors through Redis, so that they are hit, too
    fleet.settings = replace(fleet.settings, host_cache_dir=Path("/proc/none"))
    fleet.start(2)
    running = Running(fleet.settings)

    def litter() -> None:
        with redis_server.client() as client:
            names = [*client.scan_iter(f"mf:{{{running.run.uid}}}:*")]
            for name in [*names, WORKERS_SEEN, WORKERS_INFO, QUEUES_STARTED]:
                is_text = client.type(name) == b"string"
                client.delete(name)
                client.rpush(name, "junk") if is_text else client.set(name, "junk")
                client.expire(name, 60)

    running.disturb(litter)

    running.assert_undisturbed(expected, "other types under every key", "dropped, done again")
    assert [worker.process.poll() for worker in fleet.workers] == [None, None]


def test_fields_and_workers_that_are_none(standing_fleet: Fleet, expected: str) -> None:
    running = Running(standing_fleet.settings)

    def litter() -> None:
        with connect(str(standing_fleet.settings.broker_url)) as client:
            client.zadd(WORKERS_SEEN, {b"\xff@host": client.time()[0], "a": float("inf")})
            client.hset(WORKERS_INFO, mapping={b"\xff@host": "{}", "a": "junk"})
            deadline_s = time.monotonic() + 2.0
            while time.monotonic() < deadline_s and not running.has_ended:
                for key in client.scan_iter(f"mf:{{{running.run.uid}}}:*:started"):
                    client.hset(key, "x", "junk")
                    client.hset(key.replace(b":started", b":done"), b"\xff", "junk")
                    client.rpush(key.replace(b":started", b":replies"), b"\xff")

    running.disturb(litter)

    running.assert_undisturbed(expected, "junk in the ledger and among workers", "dropped, counted")
