"""What is measured when a run leaves open how its episodes are executed, and what is chosen."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metafleet.data import registry
from metafleet.errors import FleetError
from metafleet.orchestrator.autotune.calibration import Calibration, ClassSpeed
from metafleet.orchestrator.autotune.trials import Trials
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.step import StepRequest
from metafleet.workload import Workload
from tests.runs import config


class Workers:
    """Returns the given measurements; 2 processes."""

    def __init__(self, episode_s: Mapping[str, float], *, compiling_s: float = 0.0) -> None:
        self._episode_s, self._compiling_s = episode_s, compiling_s
        self.asked: list[tuple[str, int | None, int]] = []

    def measure(self, request: StepRequest, size: int | None) -> tuple[ClassSpeed, ...]:
        strategy = request.spec.execution
        self.asked.append((strategy.name, size, strategy.chunk))
        if strategy.name not in self._episode_s:
            raise FleetError(f"no worker computes {strategy.name}")
        value = self._episode_s[strategy.name]
        first_s = self._compiling_s if strategy.is_compiled else 0.0
        return (ClassSpeed("cpu", ("cpu",), 2, value, value, value, 4, first_s),)


def run_trials(
    workers: Workers, *, n_steps: int, notices: list[str] | None = None, **engine: Any
) -> Calibration:
    experiment = config(outer={"steps": n_steps}, engine=engine)
    workload = open_workload(experiment)
    trials = Trials(
        experiment,
        workload,
        workload.init_state(),
        n_steps=n_steps,
        notify=(notices if notices is not None else []).append,
    )
    return trials.run(workers.measure)


def open_workload(experiment: ExperimentConfig) -> Workload:
    source = registry.open_source(experiment.data, Path())
    return Workload.bind(experiment.workload_spec(""), source)


ALL = {"autograd": 0.02, "vmap": 0.004, "compiled": 0.0005}


def test_a_long_run_is_compiled_and_a_short_one_is_not() -> None:
    long_workers, short_workers = (Workers(ALL, compiling_s=40.0) for _ in range(2))

    long = run_trials(long_workers, n_steps=100_000, execution="auto")
    short = run_trials(short_workers, n_steps=100, execution="auto")

    assert (long.execution, short.execution) == ("compiled", "vmap")
    assert [name for name, _, _ in long_workers.asked] == ["autograd", "vmap", "compiled"]
    assert [name for name, _, _ in short_workers.asked] == ["autograd", "vmap"]


def test_compiling_time_counts() -> None:
    found = run_trials(
        Workers(ALL | {"compiled": 0.003}, compiling_s=500.0), n_steps=25_000, execution="auto"
    )

    assert [trial.execution for trial in found.trials] == ["autograd", "vmap", "compiled"]
    assert found.execution == "vmap"


def test_a_learner_that_gains_nothing_by_mapping_is_not_compiled() -> None:
    workers = Workers(ALL | {"vmap": 0.03})

    found = run_trials(workers, n_steps=100_000, execution="auto")

    assert found.execution == "autograd"
    assert [name for name, _, _ in workers.asked] == ["autograd", "vmap"]


def test_a_given_size_of_jobs_is_kept_and_an_open_one_gives_every_process_a_job() -> None:
    given, opened = Workers(ALL), Workers(ALL)

    kept = run_trials(given, n_steps=100, execution="auto", episodes_per_job=3)
    chosen = run_trials(opened, n_steps=100, execution="auto", episodes_per_job="auto")

    assert given.asked == [("autograd", 3, 0), ("vmap", 3, 3)]
    assert kept.episodes_per_job == 3
    assert opened.asked == [("autograd", None, 0), ("vmap", 5, 5)]
    assert chosen.episodes_per_job == 5


def test_a_given_way_is_not_compared_with_others() -> None:
    workers = Workers(ALL)

    found = run_trials(workers, n_steps=100, execution="compiled", episodes_per_job="auto")

    assert workers.asked == [("autograd", None, 0), ("compiled", 5, 5)]
    assert (found.execution, found.trials, found.episodes_per_job) == ("", (), 5)


def test_a_strategy_that_no_worker_supports_is_left_out_with_the_reason() -> None:
    notices: list[str] = []

    found = run_trials(
        Workers({"autograd": 0.02, "vmap": 0.004}),
        n_steps=100_000,
        notices=notices,
        execution="auto",
    )

    assert found.execution == "vmap"
    assert notices == ["execution 'compiled' is left out: no worker computes compiled"]


def test_a_failure_of_autograd_ends_the_run() -> None:
    with pytest.raises(FleetError, match="no worker computes autograd"):
        run_trials(Workers({}), n_steps=100, execution="auto")


def test_json_and_back_gives_the_same_and_people_can_read_it() -> None:
    found = run_trials(Workers(ALL), n_steps=100, execution="auto", episodes_per_job=5)

    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.reason == ("vmap, by measurement: autograd 100 ms a step, vmap 20 ms a step")
