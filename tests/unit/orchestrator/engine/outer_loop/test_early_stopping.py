"""The outer loop: validation ends it, whenever its verdicts come."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metafleet.errors import NumericsError
from metafleet.orchestrator.engine.step import StepRequest
from metafleet.orchestrator.training.checkpoint_header import TrainingProgress
from metafleet.params import digest
from tests.unit.orchestrator.engine.outer_loop.trial import Trial


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
    assert trial.newest().progress == TrainingProgress(10, 4, 0.5, 3)


def test_a_score_equal_to_the_best_is_no_improvement(tmp_path: Path) -> None:
    trial = Trial(tmp_path, dict.fromkeys(range(0, 21, 2), 0.5), **early(2))

    assert trial.run().step == 2
    assert trial.newest().progress.step == 6


def test_patience_restarts_with_each_new_best(tmp_path: Path) -> None:
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
        ("train", 1),
        ("train", 2),
        ("train", 3),
        ("validate", 3),
        ("train", 4),
        ("train", 5),
        ("train", 6),
        ("validate", 6),
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
    assert trial.newest().progress == TrainingProgress(4, 2, 0.5, 1)
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
    assert start.progress == TrainingProgress(4, 2, 0.2, 0, is_unjudged=True)
    again = Trial(tmp_path / "cut", scores, **early(3))
    found = again.run(start)
    assert again.fleet.requests[0].stream == "validate"
    assert found.stored.sha256 == expected.stored.sha256
    assert again.newest().progress == TrainingProgress(10, 4, 0.5, 3)
