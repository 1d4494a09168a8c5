"""The outer loop with a fleet that is made up: order, early stopping, going on, giving up."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metafleet.errors import CheckpointError, NumericsError
from metafleet.learners.base import EpisodeMetrics
from metafleet.params import digest, flatten_state
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.engine.step import StepOutcome, StepRequest, Ticket
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
        self.begun: dict[Ticket, StepRequest] = {}
        self.dropped: list[StepRequest] = []
        self.is_quick: Callable[[StepRequest], bool] = lambda request: True

    def begin(self, request: StepRequest) -> Ticket:
        self.requests.append(request)
        ticket = Ticket(len(self.requests))
        self.begun[ticket] = request
        return ticket

    def is_ready(self, ticket: Ticket) -> bool:
        return self.is_quick(self.begun[ticket])

    def drop(self, ticket: Ticket) -> None:
        self.dropped.append(self.begun.pop(ticket))

    def finish(self, ticket: Ticket) -> StepOutcome:
        request = self.begun.pop(ticket)
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

    lines = trial.notebook.lines
    for step in (2, 4, 5):
        before = lines[: lines.index(f"checkpoint {step}")]
        flushed = before[: len(before) - 1 - before[::-1].index("flush")]
        assert f"step {step}" in flushed
        assert step == 5 or any(line.startswith(f"validation {step}") for line in flushed)
    assert [line for line in lines if line.startswith(("step", "valid"))] == [
        *("step 1", "step 2", "validation 2 best", "step 3", "step 4", "validation 4", "step 5"),
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


@pytest.mark.parametrize("patience", [0, 1, 2, 3])
@settings(max_examples=15, deadline=None)
@given(scores=st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=10, max_size=10), data=st.data())
def test_when_verdicts_come_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, patience: int, scores: list[float], data: Any
) -> None:
    at = dict(zip(range(2, 21, 2), scores, strict=True))
    sections = early(patience) | {"engine": {"checkpoint_every": 3, "max_staleness": 1}}
    prompt = Trial(tmp_path_factory.mktemp("prompt"), at, **sections)
    expected = prompt.run()

    late = Trial(tmp_path_factory.mktemp("late"), at, **sections)
    late.fleet.is_quick = lambda request: data.draw(st.booleans())
    found = late.run()

    assert found.stored.sha256 == expected.stored.sha256
    assert (found.step, found.steps_done) == (expected.step, expected.steps_done)
    assert late.newest().progress == prompt.newest().progress
    for kind in ("step", "validation"):
        assert [line for line in late.notebook.lines if line.startswith(kind)] == [
            line for line in prompt.notebook.lines if line.startswith(kind)
        ]
    assert late.fleet.begun == prompt.fleet.begun == {}


def never(request: StepRequest) -> bool:
    return False


def test_training_goes_on_while_a_verdict_is_open(tmp_path: Path) -> None:
    trial = Trial(tmp_path, outer={"steps": 6}, validation={"every": 3})
    trial.fleet.is_quick = never

    trial.run()

    assert [(r.stream, r.step) for r in trial.fleet.requests] == [
        *(("train", 1), ("train", 2), ("train", 3), ("validate", 3)),
        *(("train", 4), ("train", 5), ("train", 6), ("validate", 6)),
    ]
    lines = [line for line in trial.notebook.lines if line.startswith(("step", "valid"))]
    assert lines.index("validation 3 best") > lines.index("step 5")


def test_steps_beyond_the_end_were_never_done(tmp_path: Path) -> None:
    trial = Trial(tmp_path, {2: 0.5}, **early(1) | {"engine": {"checkpoint_every": 1}})
    trial.fleet.is_quick = never
    trial.fleet.fail_at[6] = NumericsError("the loss is nan")

    trained = trial.run()

    assert (trained.step, trained.steps_done) == (2, 4)
    assert [event.step for event in trial.watcher.steps] == [1, 2, 3, 4]
    assert trial.newest().progress == Progress(4, 2, 0.5, 1)
    assert ("train", 5) in [(r.stream, r.step) for r in trial.fleet.requests]


def test_an_interrupt_before_a_verdict_goes_on_with_it(tmp_path: Path) -> None:
    scores = {2: 0.2, 4: 0.5, 6: 0.4, 8: 0.49, 10: 0.3}
    expected = Trial(tmp_path / "whole", scores, **early(3)).run()
    first = Trial(tmp_path / "cut", scores, **early(3))
    first.fleet.is_quick = never
    first.fleet.fail_at[6] = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        first.run()

    start = first.newest()
    assert start.progress == Progress(4, 2, 0.2, 0, is_unjudged=True)
    again = Trial(tmp_path / "cut", scores, **early(3))
    found = again.run(start)
    assert again.fleet.requests[0].stream == "validate"
    assert found.stored.sha256 == expected.stored.sha256
    assert again.newest().progress == Progress(10, 4, 0.5, 3)


def used(trial: Trial, stream: str) -> dict[int, str]:
    """By step, the digest of the state that a stream's episodes began with."""
    requests = [r for r in trial.fleet.requests if r.stream == stream]
    return {r.step: digest(r.state.params) for r in requests}


@pytest.mark.parametrize("staleness", [0, 1, 2, 4])
def test_a_gradient_is_taken_at_a_version_exactly_so_much_older(
    tmp_path: Path, staleness: int
) -> None:
    trial = Trial(
        tmp_path,
        outer={"steps": 9},
        validation={"every": 1, "episodes": 2},
        engine={"max_staleness": staleness},
    )

    trial.run()

    states = {0: digest(make_state().params)} | used(trial, "validate")
    assert len(set(states.values())) == 10
    assert used(trial, "train") == {
        step: states[max(0, step - 1 - staleness)] for step in range(1, 10)
    }
    assert len(trial.newest().recent) == staleness


@pytest.mark.parametrize("stop_at", [2, 3, 5, 8])
@pytest.mark.parametrize("staleness", [1, 2, 4])
def test_a_pipelined_run_goes_on_from_a_checkpoint_to_the_same_bits(
    tmp_path: Path, staleness: int, stop_at: int
) -> None:
    sections = {"outer": {"steps": 10}, "validation": {"every": 3, "episodes": 2}}
    engine = {"max_staleness": staleness, "checkpoint_every": 2}
    whole = Trial(tmp_path / "whole", **sections, engine=engine)
    expected = whole.run()

    first = Trial(tmp_path / "cut", **sections, engine=engine)
    first.fleet.fail_at[stop_at] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        first.run()
    again = Trial(tmp_path / "cut", **sections, engine=engine)
    found = again.run(first.newest())

    assert found.stored.sha256 == expected.stored.sha256
    assert used(again, "train").items() <= used(whole, "train").items()


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

    assert len(trial.fleet.requests) <= 4  # at the latest when the next one is due


def test_what_ails_the_database_is_told_at_each_checkpoint(tmp_path: Path) -> None:
    trial = Trial(
        tmp_path, outer={"steps": 4}, validation=NO_VALIDATION, engine={"checkpoint_every": 2}
    )
    trial.notebook.status = "database away for 9 s"

    trial.run()

    assert trial.watcher.notices == ["database away for 9 s"] * 2
