"""How many episodes make a job: long enough, no worker idle, little left over."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metafleet.errors import ConfigError
from metafleet.orchestrator.autotune.calibration import (
    TARGET_S,
    Calibration,
    ClassSpeed,
    choose_episodes_per_job,
)


def speed(device: str, *, episode_s: float, processes: int) -> ClassSpeed:
    return ClassSpeed(
        device=device,
        hardware=(f"{device} of a test",),
        processes=processes,
        episode_s=episode_s,
        least_s=0.9 * episode_s,
        most_s=1.5 * episode_s,
        jobs=12,
    )


@pytest.mark.parametrize(
    ("meta_batch", "episode_s", "processes", "expected"),
    [
        (32, 0.5, 2, 1),  # long episodes: one each
        (32, 0.03, 2, 4),  # just over the target
        (32, 0.001, 2, 16),  # short ones: but both processes get some
        (10, 0.04, 2, 5),  # 3 would do, but leave the last round to one process
        (9, 0.001, 4, 2),  # 3 would leave one process without a job
        (4, 0.001, 256, 1),  # more processes than episodes
        (1, 0.001, 1, 1),
    ],
)
def test_the_choice_for_some_fleets(
    meta_batch: int, episode_s: float, processes: int, expected: int
) -> None:
    found = choose_episodes_per_job(meta_batch, episode_s=episode_s, processes=processes)

    assert found == expected


@given(st.integers(1, 300), st.floats(0, 20), st.integers(1, 300))
def test_jobs_are_long_enough_unless_somebody_would_go_without(
    meta_batch: int, episode_s: float, processes: int
) -> None:
    size = choose_episodes_per_job(meta_batch, episode_s=episode_s, processes=processes)

    n_jobs = math.ceil(meta_batch / size)
    assert 1 <= size <= meta_batch
    assert n_jobs >= min(processes, meta_batch)
    assert size * episode_s < 2 * TARGET_S + 2 * episode_s
    if size * episode_s < TARGET_S:  # it is an equal share of the step
        assert (size + 1) * min(processes, meta_batch) > meta_batch


def test_the_slowest_class_decides_and_all_processes_count() -> None:
    cpu = speed("cpu", episode_s=0.05, processes=3)
    gpu = speed("cuda", episode_s=0.001, processes=1)

    found = Calibration.of(64, [cpu, gpu])

    assert found.episodes_per_job == choose_episodes_per_job(64, episode_s=0.05, processes=4)
    assert found.classes == (cpu, gpu)


def test_json_and_back_gives_the_same_calibration_and_people_can_read_it() -> None:
    found = Calibration.of(8, [speed("cpu", episode_s=0.0312, processes=2)])

    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert str(found) == (
        "4 to a job, by measurement: cpu 31.2 ms an episode (28.1 to 46.8 in 12 jobs; at a time: 2)"
    )


def test_a_calibration_that_is_damaged_is_refused() -> None:
    sound = Calibration.of(8, [speed("cpu", episode_s=0.1, processes=2)]).to_json()
    for change, message in (
        ({"classes": [{"device": "cpu"}]}, "needs the option 'hardware'"),
        ({"episodes_per_job": "4"}, "episodes_per_job='4'; expected a whole number"),
        ({"speed": 1}, "has no option 'speed'"),
    ):
        with pytest.raises(ConfigError, match=f"the run's calibration.*{message}"):
            Calibration.from_json({**sound, **change})
