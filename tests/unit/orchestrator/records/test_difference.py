"""How two configurations differ."""

from metafleet.experiments import find_experiment
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.records.difference import Change, difference, shipped_config
from tests.paths import REPOSITORY


def test_changed_added_and_removed_keys_are_found_and_the_seed_is_left_out() -> None:
    before = {"seed": 1, "outer": {"lr": 0.1, "steps": 5}, "model": {"name": "mlp", "hidden": [8]}}
    after = {"seed": 2, "outer": {"lr": 0.2, "steps": 5}, "model": {"name": "mlp", "bias": True}}

    assert difference(before, after) == (
        Change("model.bias", None, True),
        Change("model.hidden", [8], None),
        Change("outer.lr", 0.1, 0.2),
    )
    assert difference(before, before) == ()


def test_a_ready_made_experiment_differs_in_nothing_from_its_own_run() -> None:
    for path in sorted((REPOSITORY / "experiments").glob("*.toml")):
        shipped = shipped_config(path.stem)
        assert shipped is not None
        loaded = ExperimentConfig.load(find_experiment(path)).to_json()
        assert difference(shipped, loaded) == (), path.stem


def test_other_experiments_have_no_shipped_file() -> None:
    assert shipped_config("my-own") is None
    assert shipped_config("../secrets") is None
