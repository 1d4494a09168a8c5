"""The outer loop with a fleet that is made up: order, early stopping, going on, giving up."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metafleet.errors import CheckpointError, NumericsError
from metafleet.learners.base import EpisodeMetrics
from metafleet.params import digest, flatten_state
from orchestrator.config import ExperimentConfig
from orchestrator.engine.step import StepOutcome, StepRequest
from orchestrator.training.checkpoint import Checkpoint, CheckpointFolder, Progress
from orchestrator.training.outer_loop import OuterLoop, Trained
from tests.messages import SPEC, make_state, make_sums
from tests.runs import Watcher, config


class MadeUpFleet:
    """Gradients that depend on step and state; validations that score as the test says."""

    fingerprint = "made up"

    def __init__(self, scores: Mapping[int, float] | None = None, *, regression: bool) -> None:
        self.scores = scores or {}
        self.regression = regression
        self.requests: list[StepRequest] = []
        self.fail_at: dict[int, BaseException] = {}

    def run_step(self, request: StepRequest) -> StepOutcome:
        self.requests.append(request)
        if request.kind == "gradient" and request.step in self.fail_at:
            raise self.fail_at[request.step]
        sums = make_sums(request.step)
        for name, tensor in flatten_state(request.state).items():
            sums[name] += tensor
        score = self.scores.get(request.step, 0.0)
        metrics = EpisodeMetrics(-score, None) if self.regression else EpisodeMetrics(1.0, score)
        return StepOutcome(
            sums=sums if request.kind == "gradient" else {},
            metrics=(metrics,) * request.n_episodes,
            jobs=(),
            retries=0,
            workers_alive=2,
        )

    def close(self) -> None:
        pass


class Notebook:
    """A recorder that writes down, in order, what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.status: str | None = None

    def record_step(self, row: Any, jobs: Any) -> None:
        self.lines.append(f"step {row.step}")

    def record_evaluation(self, row: Any) -> None:
        self.lines.append(f"validation {row.step}{' best' if row.is_best else ''}")

    def record_jobs(self, jobs: Any) -> None:
        pass

    def record_checkpoint(self, row: Any) -> None:
        self.lines.append(f"checkpoint {row.step}")

    def flush(self) -> None:
        self.lines.append("flush")


class Trial:
    """One outer loop over made-up parts."""

    def __init__(
        self,
        folder: Path,
        scores: Mapping[int, float] | None = None,
        *,
        regression: bool = False,
        **sections: dict[str, Any],
    ) -> None:
        self.fleet = MadeUpFleet(scores, regression=regression)
        self.notebook, self.watcher = Notebook(), Watcher()
        self.folder = CheckpointFolder(folder)
        self.config: ExperimentConfig = config(**sections)

    def run(self, start: Checkpoint | None = None) -> Trained:
        loop = OuterLoop(
            self.config,
            SPEC,
            self.fleet,
            self.notebook,  # type: ignore[arg-type]
            folder=self.folder,
            observer=self.watcher,
            batch_norm="none",
        )
        return loop.run(start or Checkpoint(Progress(0), make_state(), {}, None))

    def newest(self) -> Checkpoint:
        found = self.folder.read_newest()
        assert found is not None
        return found[0]


NO_VALIDATION = {"every": 0, "patience": 0}


def test_without_validation_the_last_state_is_the_result(tmp_path: Path) -> None:
    trial = Trial(tmp_path, outer={"steps": 5}, validation=NO_VALIDATION)

    trained = trial.run()

    assert (trained.step, trained.steps_done) == (5, 5)
    assert trained.stored.sha256 == trial.newest().sha256
    assert digest(trained.state.params) == digest(trial.newest().state.params)
    assert [event.step for event in trial.watcher.steps] == [1, 2, 3, 4, 5]


def test_each_step_asks_for_its_own_episodes_of_the_training_split(tmp_path: Path) -> None:
    trial = Trial(tmp_path, outer={"steps": 3}, validation=NO_VALIDATION)

    trial.run()

    assert [
        (r.stream, r.step, r.episode_step, r.split, r.kind, r.n_episodes)
        for r in trial.fleet.requests
    ] == [("train", step, step, "meta_train", "gradient", 10) for step in (1, 2, 3)]
    states = {digest(request.state.params) for request in trial.fleet.requests}
    assert len(states) == 3


def test_every_validation_asks_for_the_same_episodes(tmp_path: Path) -> None:
    trial = Trial(tmp_path, outer={"steps": 6}, validation={"every": 2, "episodes": 7})

    trial.run()

    validations = [r for r in trial.fleet.requests if r.stream == "validate"]
    assert [(r.step, r.episode_step, r.split, r.kind, r.n_episodes) for r in validations] == [
        (step, 0, "meta_val", "evaluate", 7) for step in (2, 4, 6)
    ]


def test_rows_are_flushed_before_a_checkpoint_covers_them(tmp_path: Path) -> None:
    trial = Trial(
        tmp_path,
        {2: 0.5, 4: 0.4},
        outer={"steps": 5},
        validation={"every": 2},
        engine={"checkpoint_every": 2},
    )

    trial.run()

    assert trial.notebook.lines == [
        *("step 1", "step 2", "validation 2 best", "flush", "checkpoint 2"),
        *("step 3", "step 4", "validation 4", "flush", "checkpoint 4"),
        *("step 5", "flush", "checkpoint 5"),
    ]


def early(patience: int) -> dict[str, dict[str, Any]]:
    return {
        "outer": {"steps": 20},
        "validation": {"every": 2, "episodes": 2, "patience": patience},
        "engine": {"checkpoint_every": 3},
    }


@pytest.mark.parametrize("regression", [False, True])
def test_training_stops_when_validation_brings_nothing_better(
    tmp_path: Path, regression: bool
) -> None:
    scores = {2: 0.2, 4: 0.5, 6: 0.4, 8: 0.49, 10: 0.3, 12: 0.9}
    trial = Trial(tmp_path, scores, regression=regression, **early(3))

    trained = trial.run()

    assert (trained.step, trained.steps_done) == (4, 10)
    best = next(r for r in trial.fleet.requests if (r.stream, r.step) == ("validate", 4))
    assert digest(trained.state.params) == digest(best.state.params)
    assert [e.step for e in trial.watcher.evaluations if e.is_best] == [2, 4]
    assert trial.newest().progress == Progress(10, 4, 0.5, 3)


def test_as_good_as_the_best_is_nothing_better(tmp_path: Path) -> None:
    trial = Trial(tmp_path, dict.fromkeys(range(0, 21, 2), 0.5), **early(2))

    assert trial.run().step == 2
    assert trial.newest().progress.step == 6


def test_patience_begins_anew_with_each_best(tmp_path: Path) -> None:
    scores = {2: 0.1, 4: 0.0, 6: 0.2, 8: 0.1, 10: 0.3, 12: 0.0, 14: 0.0, 16: 0.9}
    trial = Trial(tmp_path, scores, **early(2))

    trained = trial.run()

    assert (trained.step, trained.steps_done) == (10, 14)


def test_without_patience_training_goes_to_the_end_and_gives_the_best(tmp_path: Path) -> None:
    trial = Trial(tmp_path, {4: 0.9}, **early(0))

    trained = trial.run()

    assert (trained.step, trained.steps_done) == (4, 20)


@pytest.mark.parametrize("stop_at", range(2, 11))
def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path: Path, stop_at: int) -> None:
    scores = {2: 0.2, 4: 0.5, 6: 0.4, 8: 0.49, 10: 0.3, 12: 0.9}
    expected = Trial(tmp_path / "whole", scores, **early(3)).run()

    first = Trial(tmp_path / "cut", scores, **early(3))
    first.fleet.fail_at[stop_at] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        first.run()
    start = first.newest()
    assert start.progress.step == stop_at - 1
    found = Trial(tmp_path / "cut", scores, **early(3)).run(start)

    assert found.stored.sha256 == expected.stored.sha256
    assert (found.step, found.steps_done) == (expected.step, expected.steps_done)
    assert digest(found.state.params) == digest(expected.state.params)


def test_a_run_that_is_over_only_gives_its_result_again(tmp_path: Path) -> None:
    expected = Trial(tmp_path, {4: 0.5}, **early(2)).run()

    again = Trial(tmp_path, **early(2))
    found = again.run(again.newest())

    assert found.stored.sha256 == expected.stored.sha256
    assert digest(found.state.params) == digest(expected.state.params)
    assert again.fleet.requests == []


def test_numbers_that_blow_up_leave_the_last_checkpoint(tmp_path: Path) -> None:
    trial = Trial(tmp_path, validation=NO_VALIDATION, engine={"checkpoint_every": 2})
    trial.fleet.fail_at[6] = NumericsError("the loss is nan")

    with pytest.raises(NumericsError):
        trial.run()

    assert trial.newest().progress.step == 4


def test_a_checkpoint_that_cannot_be_written_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    trial = Trial(tmp_path / "file" / "x", validation=NO_VALIDATION, engine={"checkpoint_every": 2})

    with pytest.raises(CheckpointError, match="cannot be written"):
        trial.run()

    assert len(trial.fleet.requests) == 2


def test_what_ails_the_database_is_told_at_each_checkpoint(tmp_path: Path) -> None:
    trial = Trial(
        tmp_path, outer={"steps": 4}, validation=NO_VALIDATION, engine={"checkpoint_every": 2}
    )
    trial.notebook.status = "database away for 9 s"

    trial.run()

    assert trial.watcher.notices == ["database away for 9 s"] * 2
