"""The outer loop: what it asks for, in which order, and when it gives up."""

from pathlib import Path

import pytest

from metafleet.errors import CheckpointError, NumericsError
from metafleet.params import digest
from tests.unit.orchestrator.engine.outer_loop.trial import NO_VALIDATION, Trial


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
        "step 1",
        "step 2",
        "validation 2 best",
        "step 3",
        "step 4",
        "validation 4",
        "step 5",
    ]


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


def test_a_database_failure_is_reported_at_each_checkpoint(tmp_path: Path) -> None:
    trial = Trial(
        tmp_path, outer={"steps": 4}, validation=NO_VALIDATION, engine={"checkpoint_every": 2}
    )
    trial.notebook.status = "database away for 9 s"

    trial.run()

    assert trial.watcher.notices == ["database away for 9 s"] * 2
