"""Where shards go when a run may use several queues."""

import math
import random

import pytest

from metafleet.orchestrator.engine.placement import QueueLoad, place


def lane(
    queue: str,
    *,
    processes: int = 1,
    on_their_way: int = 0,
    room: int = 1000,
    typical_s: float | None = 1.0,
) -> QueueLoad:
    return QueueLoad(queue, processes, on_their_way, room, typical_s)


def ends_s(placed: dict[int, str], lanes: list[QueueLoad]) -> float:
    """When the last shard is done if each takes what it typically takes."""
    return max(
        math.ceil((each.on_their_way + n) / each.processes) * (each.typical_s or 0.0)
        for each in lanes
        if (n := list(placed.values()).count(each.queue)) or each.on_their_way
    )


def test_one_queue_gets_what_it_has_room_for_in_order() -> None:
    assert place(range(5, 50), [lane("cpu", room=7, on_their_way=4)]) == dict.fromkeys(
        (5, 6, 7), "cpu"
    )
    assert place(range(5), [lane("cpu", room=3, on_their_way=4)]) == {}


def test_each_class_gets_shards_by_its_speed() -> None:
    placed = list(place(range(110), [lane("gpu", typical_s=0.1), lane("cpu")]).values())

    assert (placed.count("gpu"), placed.count("cpu")) == (100, 10)


def test_the_last_shard_waits_for_the_fast_class() -> None:
    busy, idle = lane("gpu", on_their_way=4, room=4, typical_s=0.1), lane("cpu", room=2)

    # the GPU has done five more in half a second, one CPU a single one in a second
    assert place(range(5), [busy, idle]) == {}
    assert place(range(7), [busy, idle]) == {6: "cpu"}


def test_a_class_of_which_nothing_is_known_is_tried() -> None:
    placed = place(range(4), [lane("gpu", typical_s=0.1), lane("cpu", typical_s=None)])

    assert sorted(placed.values()) == ["cpu", "cpu", "gpu", "gpu"]


def test_a_class_without_workers_gets_nothing_while_another_has_some() -> None:
    empty = [lane("gpu", processes=0, room=4), lane("cpu", processes=0, room=4)]

    assert set(place(range(9), [empty[0], lane("cpu")]).values()) == {"cpu"}
    assert place(range(9), empty) == dict.fromkeys(range(4), "gpu")


def test_a_job_that_failed_on_one_device_is_tried_on_another() -> None:
    lanes = [lane("gpu", typical_s=0.01), lane("cpu")]

    assert place([3], lanes, avoid={3: "gpu"}) == {3: "cpu"}
    assert place([3], lanes[:1], avoid={3: "gpu"}) == {3: "gpu"}


def test_what_is_sent_again_needs_no_room() -> None:
    full = [lane("gpu", on_their_way=8, room=4), lane("cpu", on_their_way=9, room=4)]

    assert place([1, 2], full) == {}
    assert place([1, 2], full, has_limits=False) == {1: "gpu", 2: "gpu"}


@pytest.mark.parametrize("seed", range(20))
def test_a_step_ends_as_early_as_by_any_other_split(seed: int) -> None:
    rng = random.Random(seed)
    lanes = [
        lane(
            queue,
            processes=rng.randint(1, 5),
            on_their_way=rng.randint(0, 6),
            typical_s=rng.uniform(0.01, 1.0),
        )
        for queue in ("gpu", "cpu")
    ]
    n_shards = rng.randint(1, 40)

    placed = place(range(n_shards), lanes)

    splits = [dict(enumerate(["gpu"] * n + ["cpu"] * (n_shards - n))) for n in range(n_shards + 1)]
    assert list(placed) == list(range(n_shards))
    assert ends_s(placed, lanes) == pytest.approx(min(ends_s(s, lanes) for s in splits))
