"""What of a run's rows and configuration a model keeps."""

from pathlib import Path

from metafleet.db.records import EvaluationRecord
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.runs.model_record import record_of
from tests.unit.orchestrator.configurations import GOOD

FOLDER = GOOD.replace('"sinusoid"', '"folder"\npath = "/home/me/pets"\nimported = "pets"')
CLASSES = FOLDER.replace("n_way = 0", "n_way = 5").replace("meta_test.n_query = 50", "")


def config_of(tmp_path: Path, text: str) -> ExperimentConfig:
    (tmp_path / "it.toml").write_text(text)
    return ExperimentConfig.load(tmp_path / "it.toml", ("data.path=/home/me/pets",))


def row(
    label: str = "trained",
    *,
    step: int = 7,
    split: str = "meta_test",
    episodes: int = 600,
    accuracy: float | None = 0.9,
    loss: float = 0.5,
) -> EvaluationRecord:
    return EvaluationRecord(
        step=step,
        split=split,
        label=label,
        episodes=episodes,
        loss=loss,
        loss_ci95=0.01,
        accuracy=accuracy,
        accuracy_ci95=None if accuracy is None else 0.02,
        batch_norm="support",
    )


def test_results_are_those_of_the_state_and_of_baselines_with_most_episodes(tmp_path: Path) -> None:
    rows = [
        row(step=3),
        row(step=7, episodes=600),
        row(step=7, episodes=1000, accuracy=0.91),
        row(step=7, split="meta_val", episodes=200),
        row("initialisation", step=0, accuracy=0.3),
        row("trained, k_shot=5, meta_test.missing_rate=0.3"),
        row('trained, support_modalities=["image", "text"]'),
        row("nearest_prototype", step=0, loss=float("nan")),
        row("trained, cut~0123abcd"),
    ]

    found = record_of(config_of(tmp_path, CLASSES), rows, step=7, data_licence="MIT").results

    assert [(r.split, r.judged, r.episodes, r.k_shot, r.otherwise) for r in found] == [
        ("meta_test", "trained", 1000, 5, ()),
        ("meta_val", "trained", 200, 5, ()),
        ("meta_test", "initialisation", 600, 5, ()),
        ("meta_test", "trained", 600, 5, ("k_shot=5", "meta_test.missing_rate=0.3")),
        ("meta_test", "trained", 600, 5, ('support_modalities=["image", "text"]',)),
    ]
    assert [(f.name, f.value, f.ci95) for f in found[0].figures] == [
        ("accuracy", 0.91, 0.02),
        ("loss", 0.5, 0.01),
    ]


def test_sizes_of_other_episodes_are_in_the_result(tmp_path: Path) -> None:
    rows = [row("trained, meta_test.n_way=20, k_shot=1")]

    (found,) = record_of(config_of(tmp_path, CLASSES), rows, step=7, data_licence="").results

    assert (found.n_way, found.k_shot, found.n_query) == (20, 1, 5)


def test_a_regression_has_a_loss_alone(tmp_path: Path) -> None:
    (tmp_path / "it.toml").write_text(GOOD)
    config = ExperimentConfig.load(tmp_path / "it.toml")

    (found,) = record_of(config, [row(accuracy=None)], step=7, data_licence="").results

    assert [figure.name for figure in found.figures] == ["loss"]
    assert (found.n_way, found.n_query) == (0, 50)


def test_a_folder_is_named_once_and_without_where_it_lies(tmp_path: Path) -> None:
    config = config_of(tmp_path, CLASSES)
    tree = config.to_json() | {"data": {"name": "folder", "path": "/home/me/pets"}}
    more = {"imported": "pets", "image": {"encoder": "timm:/home/me/models/dino"}}
    both = config.from_json(tree | {"data": tree["data"] | more})

    record = record_of(both, [], step=7, data_licence="yours")

    encoder = {"encoder": "timm:~/dino"}
    assert record.config["data"] == {"name": "folder", "path": "~/pets", "image": encoder}
    assert record.data_licence == ""
    assert "/home" not in str(record.to_json())
