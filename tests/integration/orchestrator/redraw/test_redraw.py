"""Episodes that are drawn again are those that the evaluation drew."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metafleet.contracts.settings import Settings
from metafleet.data.decoding.shown import Shown
from metafleet.data.registry import open_data
from metafleet.data.stored_items import ONLY_FEATURES
from metafleet.db.engine import Database
from metafleet.db.records import EpisodeResultsRecord, RunRecord
from metafleet.db.repositories import EpisodeResultsRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.redraw.confusion import Confusion
from metafleet.orchestrator.redraw.counting import count_confusion
from metafleet.orchestrator.redraw.drawn import DrawnEpisode
from metafleet.orchestrator.redraw.evaluated import find_evaluated, worst_first
from metafleet.orchestrator.redraw.redraw import Redraw
from metafleet.orchestrator.runs.evaluate_run import evaluate_run
from metafleet.splits import META_TEST, META_VAL
from tests import encoded, runs
from tests.folders import OTHER_SEED
from tests.menagerie import make_classes

THINGS: dict[str, Any] = {
    "name": "things",
    "seed": 5,
    "episodes": {
        "n_way": 3,
        "k_shot": 2,
        "n_query": 3,
        "missing_rate": 0.3,
        "meta_test": {"shots": "uneven"},
    },
    "model": {"name": "fusion"},
    "learner": {"name": "protonet"},
    "outer": {"steps": 4, "meta_batch_size": 2, "lr": 0.002},
    "validation": {"every": 2, "episodes": 4},
    "test": {"episodes": 12, "baselines": True},
    "engine": {"episodes_per_job": 2, "checkpoint_every": 2},
}


class _Things:
    """A run on a folder of pictures, sounds and texts, in a home of its own."""

    def __init__(self, folder: Path) -> None:
        make_classes(folder / "things", range(16), n_items=8, seed=1)
        self.settings = Settings.load(given={"METAFLEET_HOME": str(folder / "home")})
        data = {"name": "folder", "path": str(folder / "things"), "split_seed": OTHER_SEED}
        tree = THINGS | {"data": data | {"split_fractions": [0.4, 0.3, 0.3]}}
        run = runs.new_run(self.settings, ExperimentConfig.from_json(tree))
        runs.execute(self.settings, run, in_process=True)
        self.run = runs.read_run(self.settings, run)

    def evaluated(self, label: str = "trained", split: str = "") -> EpisodeResultsRecord:
        with self.open() as database, database.session(read_only=True) as session:
            found = find_evaluated(session, self.run, split=split, label=label)
        assert found is not None
        return found

    def redraw(self, record: EpisodeResultsRecord) -> Redraw:
        return Redraw.open(self.settings, self.run, record, print)

    def open(self) -> Database:
        return Database.open(self.settings.database_url)


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Things]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BROKER_URL", "DATABASE_URL", "DATA_DIR", "HOME"):
            patch.delenv(f"METAFLEET_{name}", raising=False)
        yield _Things(tmp_path_factory.mktemp("things"))


@pytest.mark.parametrize("label", ["trained", "initialisation", "nearest_prototype"])
def test_every_episode_has_the_recorded_result(things: _Things, label: str) -> None:
    record = things.evaluated(label)
    redraw = things.redraw(record)
    assert len(record.losses) == 12 and record.split == META_TEST
    for index in range(len(record.losses)):
        episode = redraw.draw(index)
        assert episode.is_as_recorded and not episode.disagreement
        assert record.accuracies and episode.recorded_accuracy == record.accuracies[index]
        n_right = sum(not item.is_wrong for item in episode.query)
        assert n_right / len(episode.query) == episode.accuracy
        for item in episode.query:
            assert sum(item.probabilities) == pytest.approx(1.0)
            assert item.predicted == int(np.argmax(item.probabilities))


def test_the_items_shown_are_the_inputs_of_the_model(things: _Things) -> None:
    redraw = things.redraw(things.evaluated())
    n_missing = n_compared = 0
    for index in range(12):
        drawn = redraw.draw(index)
        episode = redraw.answer(index)[0]
        for items, part in ((drawn.support, episode.support), (drawn.query, episode.query)):
            assert [item.targets for item in items] == [(t,) for t in part.targets.tolist()]
            for i, item in enumerate(items):
                shows = {name: bool(part.inputs[f"{name}.present"][i]) for name in item.shown}
                assert set(shows) == {"image", "audio", "text"}
                assert shows == {name: it is not None for name, it in item.shown.items()}
                n_missing += not all(shows.values())
                picture, text = item.shown["image"], item.shown["text"]
                if picture is not None:
                    seen = 255 * part.inputs["image"][i].permute(1, 2, 0).numpy()
                    assert np.array_equal(_pixels(picture), seen.round().astype(np.uint8))
                    n_compared += 1
                if text is not None:
                    stored = bytes(part.inputs["text"][i].byte().tolist()).rstrip(b"\0")
                    assert text.text == stored.decode()
    assert n_missing > 10 and n_compared > 10


def test_an_evaluation_with_other_episodes_is_drawn_as_it_was(things: _Things) -> None:
    overrides = ["episodes.n_way=2", 'episodes.meta_test.query_modalities=["image", "text"]']
    overrides += ["episodes.meta_test.shots=even"]
    with things.open() as database:
        evaluate_run(
            database,
            things.settings,
            things.run.id,
            split=META_TEST,
            episodes=5,
            in_process=True,
            observer=runs.Watcher(),
            overrides=overrides,
        )
        with database.session(read_only=True) as session:
            records = EpisodeResultsRepository(session).list(things.run.id, split=META_TEST)
    (record,) = (one for one in records if "n_way=2" in one.label)
    redraw = things.redraw(record)
    for index in range(5):
        episode = redraw.draw(index)
        assert len(episode.classes) == 2 and episode.is_as_recorded
        assert all(item.shown["audio"] is None for item in episode.query)


def test_another_result_than_the_recorded_one_is_said(things: _Things) -> None:
    record = things.evaluated()
    assert record.accuracies
    changed = replace(record, accuracies=(0.123, *record.accuracies[1:]))
    episode = things.redraw(changed).draw(0)
    assert not episode.is_as_recorded
    assert episode.disagreement.endswith("but 0.123 was recorded")
    found = count_confusion(things.redraw(changed))
    assert found is not None and found.n_differing == 1


def test_a_state_that_was_not_kept_is_refused(things: _Things) -> None:
    record = replace(things.evaluated(split=META_VAL), step=1)
    with pytest.raises(ConfigError, match=r"keeps the state of step .*, but the evaluation was of"):
        things.redraw(record)


def test_a_cut_label_is_refused(things: _Things) -> None:
    record = replace(things.evaluated(), label="trained, n_way=5, k_s~0123abcd")
    with pytest.raises(ConfigError, match="too many changes of its episodes"):
        things.redraw(record)


def test_an_episode_beyond_the_evaluation_is_refused(things: _Things) -> None:
    redraw = things.redraw(things.evaluated())
    with pytest.raises(ConfigError, match="episode 12 of 12; expected 0 to 11"):
        redraw.draw(12)


def test_confusion_counts_every_query_once(things: _Things) -> None:
    record = things.evaluated()
    redraw = things.redraw(record)
    found = count_confusion(redraw)
    assert found is not None and found.n_differing == 0
    drawn = [redraw.draw(index) for index in range(12)]
    assert sum(found.counts.values()) == sum(len(episode.query) for episode in drawn)
    wrong = [
        (episode.classes[item.targets[0]], episode.classes[item.predicted or 0])
        for episode in drawn
        for item in episode.query
        if item.is_wrong
    ]
    for true, predicted, count, share in found.pairs():
        assert wrong.count((true, predicted)) == count
        assert 0 < share <= 1
    accuracies = [each.accuracy for each in found.classes()]
    assert accuracies == sorted(accuracies)
    assert Confusion.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_drawn_episode_survives_json(things: _Things) -> None:
    episode = things.redraw(things.evaluated()).draw(3)
    assert DrawnEpisode.from_json(json.loads(json.dumps(episode.to_json()))) == episode


def test_the_worst_episodes_are_first(things: _Things) -> None:
    record = things.evaluated()
    assert record.accuracies
    ordered = [(record.accuracies[i], -record.losses[i]) for i in worst_first(record)]
    assert ordered == sorted(ordered)


def test_features_show_the_texts_that_they_are_of_if_these_are_prepared(
    home: Path, tmp_path: Path
) -> None:
    settings = Settings.load()
    folder = encoded.write_texts(tmp_path / "texts")
    run = runs.new_run(settings, encoded.experiment(folder, n_steps=2))
    runs.execute(settings, run, in_process=True)
    run = runs.read_run(settings, run)
    item = _first(settings, run, has_classes=True).query[0]
    assert item.notes == {"text": ONLY_FEATURES} and not item.shown
    plain = {k: v for k, v in encoded.options(folder).items() if k != "text"}
    open_data(plain, settings.data_dir).prepare()
    episode = _first(settings, run, has_classes=True)
    for item in (*episode.support, *episode.query):
        shown = item.shown["text"]
        assert shown is not None and episode.is_as_recorded
        assert shown.text.startswith(episode.classes[item.targets[0]])


def test_regression_shows_points_and_predictions(home: Path) -> None:
    settings = Settings.load()
    run = runs.new_run(settings, runs.config())
    runs.execute(settings, run, in_process=True)
    episode = _first(settings, runs.read_run(settings, run))
    assert episode.is_as_recorded and episode.accuracy is None and episode.classes == ()
    assert len(episode.support) == 5 and not episode.support[0].outputs
    errors = [(item.values[0] - item.outputs[0]) ** 2 for item in episode.query]
    assert sum(errors) / len(errors) == pytest.approx(episode.loss, rel=1e-5)


def _first(settings: Settings, run: RunRecord, *, has_classes: bool = False) -> DrawnEpisode:
    with (
        Database.open(settings.database_url) as database,
        database.session(read_only=True) as session,
    ):
        record = find_evaluated(session, run)
    assert record is not None
    redraw = Redraw.open(settings, run, record, print)
    assert (count_confusion(redraw) is not None) == has_classes
    return redraw.draw(0)


def _pixels(shown: Shown) -> Any:
    return np.asarray(Image.open(io.BytesIO(shown.pictures[0])).convert("RGB"))
