"""A folder of a user's own goes from import to a trained run, over a fleet, to the same bits."""

from pathlib import Path

from metafleet.contracts.settings import Settings
from metafleet.data.importing.importer import import_folder
from metafleet.data.importing.options import FolderOptions
from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests.fleet import ROOT, Fleet
from tests.folders import OTHER_SEED, class_folders, sentence, write
from tests.runs import execute, new_run, undisturbed

SHORT = (
    "outer.steps=4",
    "outer.meta_batch_size=4",
    "validation.every=0",
    "test.episodes=8",
    "test.baselines=false",
)


def import_here(settings: Settings, folder: Path) -> None:
    """Pictures of all items, sounds of some, one sentence."""
    class_folders(folder)
    write(folder, {"kind00/0.txt": sentence(1)})
    options = FolderOptions(
        path=str(folder), split_seed=OTHER_SEED, decoders={"image": {"side": 16}}
    )
    assert import_folder(options, settings.data_dir, name="mine").prepared is not None


def test_the_ready_experiment_runs_on_an_imported_folder(
    standing_fleet: Fleet, tmp_path: Path
) -> None:
    settings = standing_fleet.settings
    import_here(settings, tmp_path / "folder")
    experiment = ExperimentConfig.load(ROOT / "experiments" / "folder-protonet.toml", SHORT)

    expected = undisturbed(settings, experiment)
    run = new_run(settings, experiment)
    report = execute(settings, run)

    assert report.checkpoint_sha256 == expected
    assert len(report.workers) >= 1
    assert run.config["data"]["path"] == str(tmp_path / "folder")  # for hosts without the import
