"""Epochs in Redis and in the database that disagree: no one took the run over, and it goes on."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from metafleet.contracts.connections import connect
from metafleet.contracts.keys import RunKeys
from tests.fleet import Fleet
from tests.running import EXPERIMENT, SHARDS, STEPS, Running
from tests.runs import new_run, read_run


def back_as_it_was(client: redis.Redis, keys: RunKeys) -> None:
    client.mset({keys.epoch: 0, keys.holder: "predecessor:1/a"})
    client.set(keys.lease, "predecessor:1/a", px=8000)


def number_changed(client: redis.Redis, keys: RunKeys) -> None:
    client.set(keys.epoch, 1_000_000)


def another_type(client: redis.Redis, keys: RunKeys) -> None:
    client.delete(keys.epoch)
    client.rpush(keys.epoch, "garbage")


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [
        (back_as_it_was, 2, 9),
        (number_changed, 1_000_001, 1_000_009),
        (another_type, 1000, 2000),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_redis_whose_epoch_is_not_ours_any_more(
    standing_fleet: Fleet,
    expected: str,
    change: Callable[[redis.Redis, RunKeys], None],
    least: int,
    most: int,
) -> None:
    running = Running(standing_fleet.settings)

    def disturb() -> None:
        with connect(str(standing_fleet.settings.broker_url)) as client:
            change(client, RunKeys(running.run.uid))

    running.disturb(disturb)

    name = change.__name__.replace("_", " ")
    running.assert_undisturbed(expected, f"epochs that disagree: {name}", "begun beyond both")
    assert least <= read_run(running.settings, running.run).epoch <= most


@pytest.mark.parametrize(
    ("in_redis", "epoch"),
    [(1, 2), (1_000_000, 1_000_001), (b"garbage", None)],
    ids=["one", "a million", "no number"],
)
def test_a_database_that_is_behind_redis(
    standing_fleet: Fleet, expected: str, in_redis: Any, epoch: int | None
) -> None:
    settings = standing_fleet.settings
    run = new_run(settings, EXPERIMENT)
    keys = RunKeys(run.uid)
    with connect(str(settings.broker_url)) as client:
        client.mset({keys.epoch: in_redis, keys.holder: "predecessor:1/a"})
        # what the predecessor did under the epoch that the database would give out once more
        for before in range(1, 4) if in_redis != 1 else (1,):
            client.set(keys.closed("train", epoch=before), STEPS)
            for step in range(1, STEPS + 1):
                started = keys.step("train", step, epoch=before).started
                client.hset(started, mapping={f"{shard}:0": "dead/1" for shard in range(SHARDS)})

    running = Running(settings, run=run)

    running.assert_undisturbed(
        expected, f"epochs that disagree: Redis at {in_redis!r:.12}", "begun beyond both"
    )
    found = read_run(settings, run).epoch
    assert found == epoch if epoch is not None else found > 1000
