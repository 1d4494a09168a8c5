"""The outer loop: gradients of older states, and going on with them."""

from pathlib import Path

import pytest

from metafleet.params import digest
from tests.messages import make_state
from tests.unit.orchestrator.engine.outer_loop.trial import Trial


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
