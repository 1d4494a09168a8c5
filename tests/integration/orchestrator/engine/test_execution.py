"""A strategy gives the same bits in one process and over a fleet, and is never changed in a run."""

import signal
from typing import Any

import pytest

from metafleet.contracts.settings import Settings
from metafleet.errors import ConfigError
from metafleet.orchestrator.autotune import preparation
from tests.fleet import Fleet, wait_until
from tests.runs import (
    InterruptAt,
    Watcher,
    config,
    end_lease,
    execute,
    new_run,
    read_run,
    sigkill,
    start_orchestrator,
    undisturbed,
)

TINY: dict[str, dict[str, Any]] = {
    "model": {"hidden": [5]},
    "learner": {"inner_steps": 1},
}


def sharing_programs(settings: Settings) -> Settings:
    """Let the undisturbed run of this test take the programs of the fleet."""
    settings.programs_dir.mkdir(mode=0o700, exist_ok=True)
    other = settings.home / "undisturbed"
    other.mkdir(exist_ok=True)
    if not (other / "programs").exists():
        (other / "programs").symlink_to(settings.programs_dir)
    return settings


@pytest.mark.parametrize("name", ["vmap", "constant_memory"])
def test_a_strategy_gives_the_same_bits_over_the_fleet(standing_fleet: Fleet, name: str) -> None:
    settings = standing_fleet.settings
    experiment = config(engine={"execution": name})

    report = execute(settings, new_run(settings, experiment))

    assert report.checkpoint_sha256 == undisturbed(settings, experiment)


def test_a_compiled_run_gives_the_same_bits_over_the_fleet(standing_fleet: Fleet) -> None:
    settings = sharing_programs(standing_fleet.settings)
    experiment = config(**TINY, engine={"execution": "compiled"})
    run, watcher = new_run(settings, experiment), Watcher()

    report = execute(settings, run, watcher=watcher)

    assert report.checkpoint_sha256 == undisturbed(settings, experiment)
    assert len(list(settings.programs_dir.glob("*.so"))) == 1  # last jobs of one episode included
    at = [i for i, text in enumerate(watcher.notices) if text.startswith("compil")]
    assert len(at) == 2
    assert "compiler" in read_run(settings, run).fingerprint
    assert "compiler" not in read_run(settings, _plain_run(settings)).fingerprint


def _plain_run(settings: Settings) -> Any:
    run = new_run(settings, config(outer={"steps": 1}))
    execute(settings, run)
    return run


def test_a_compiled_run_goes_on_after_a_kill(standing_fleet: Fleet) -> None:
    settings = sharing_programs(standing_fleet.settings)
    experiment = config(**TINY, engine={"execution": "compiled"}, outer={"steps": 40})
    run = new_run(settings, experiment)
    victim = start_orchestrator(settings, run)
    wait_until(lambda: read_run(settings, run).steps_done >= 5, "step 5", 120)
    sigkill(victim)
    assert victim.returncode == -signal.SIGKILL, "it had ended before it was killed"
    end_lease(settings, run)

    report = execute(settings, run)

    assert report.checkpoint_sha256 == undisturbed(settings, experiment)


def test_measurements_are_recorded_and_reused_on_resume(
    standing_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = standing_fleet.settings
    run = new_run(settings, config(engine={"execution": "auto"}, outer={"steps": 14}))
    with pytest.raises(KeyboardInterrupt):
        execute(settings, run, watcher=InterruptAt(5))
    measured = read_run(settings, run).calibration
    assert measured is not None
    assert [trial["execution"] for trial in measured["trials"]] == ["autograd", "vmap"]
    assert measured["execution"] in ("autograd", "vmap")
    monkeypatch.setattr(preparation, "calibrate_fleet", _never)

    report = execute(settings, run)

    given = config(engine={"execution": measured["execution"]}, outer={"steps": 14})
    assert report.checkpoint_sha256 == undisturbed(settings, given)
    assert read_run(settings, run).calibration == measured


def test_a_learner_without_inner_steps_is_refused_when_submitted(standing_fleet: Fleet) -> None:
    experiment = config(engine={"execution": "constant_memory"})
    asked = experiment.model_copy(update={"learner": {"name": "cnp"}, "model": {"name": "raw"}})

    with pytest.raises(ConfigError, match="but learner 'cnp' does not adapt by inner steps"):
        new_run(standing_fleet.settings, asked)


def _never(*_: object, **__: object) -> None:
    raise AssertionError("it was measured again")
