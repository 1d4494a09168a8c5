"""A change of the code that changes the final bits of a run is noticed."""

from typing import Any

import pytest

from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests.fleet import ROOT, Fleet
from tests.runs import InterruptAt, execute, new_run
from tests.same_bits.cases import CASES
from tests.same_bits.computing import compute, import_folder
from tests.same_bits.reference import recorded

# on another processor the last bits differ, and four outer steps let them grow little
LOSS_TOLERANCE = 1e-2
ACCURACY_TOLERANCE = 0.05
BY_NAME = {case.name: case for case in CASES}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return compute(ROOT, tmp_path_factory.mktemp("same_bits"))


@pytest.mark.parametrize("name", BY_NAME)
def test_a_run_ends_with_the_bits_on_record(name: str, found: dict[str, Any]) -> None:
    record = recorded()
    expected, result = record["runs"][name], found["runs"][name]

    if found["fingerprint"] == record["fingerprint"]:
        assert result["sha256"] == expected["sha256"]
    assert result["loss"] == pytest.approx(expected["loss"], rel=LOSS_TOLERANCE)
    if expected["accuracy"] is not None:
        assert result["accuracy"] == pytest.approx(expected["accuracy"], abs=ACCURACY_TOLERANCE)


def test_every_case_is_on_record() -> None:
    assert set(recorded()["runs"]) == set(BY_NAME)


@pytest.mark.parametrize("name", ["maml, images", "all modalities fused"])
def test_a_resumed_run_over_two_workers_ends_with_the_bits_on_record(
    name: str, found: dict[str, Any], standing_fleet: Fleet
) -> None:
    settings = standing_fleet.settings
    import_folder(ROOT, settings.home)
    case = BY_NAME[name]
    experiment = ExperimentConfig.load(ROOT / case.path, case.overrides())
    run = new_run(settings, experiment)

    with pytest.raises(KeyboardInterrupt):
        execute(settings, run, in_process=True, watcher=InterruptAt(2))
    report = execute(settings, run)

    assert report.checkpoint_sha256 == found["runs"][name]["sha256"]
    assert len(report.workers) > 0
