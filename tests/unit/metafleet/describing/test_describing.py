"""Descriptions of built-in, computed, mixed and encoded data."""

import json
from pathlib import Path
from typing import Any

import pytest

from metafleet.data.registry import open_data
from metafleet.describing.describing import NO_ENCODER, describe_data
from metafleet.describing.description import Description
from metafleet.describing.embedding import LENGTH
from metafleet.errors import DataCorruptError, DataMissingError
from tests.encoded import ENCODER, options, write_texts
from tests.folders import picture, write
from tests.topics import write_topics


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of prepared data for several tests: preparing takes longer than describing."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def glyphs(data_dir: Path) -> Description:
    return describe_data({"name": "glyphs"}, data_dir)


def test_figures_count_what_the_splits_hold(glyphs: Description, data_dir: Path) -> None:
    summary = open_data({"name": "glyphs"}, data_dir).summarise()

    assert glyphs.digest == summary.digest
    for split, holds in summary.splits.items():
        assert glyphs.figures[f"classes.{split}"] == holds.classes
    sizes = [n for holds in summary.splits.values() for n in holds.class_items.values()]
    assert glyphs.figures["items"] == sum(sizes)
    assert glyphs.figures["items_a_class.min"] == min(sizes)
    assert glyphs.figures["numbers"] == 28 * 28
    assert glyphs.figures["kind.image"] == 1.0 and glyphs.figures["missing"] == 0.0


def test_more_shots_make_nearest_prototypes_better(glyphs: Description) -> None:
    one, five = glyphs.landmarks

    assert (one.inputs, one.k_shot, five.k_shot) == ("raw", 1, 5)
    assert 0.5 < one.mean < five.mean < 1.0 and 0.0 < one.ci95 < 0.05
    assert one.above_chance == pytest.approx((one.mean - 0.2) / 0.8)
    assert glyphs.embeddings == {} and glyphs.notes == (NO_ENCODER,)


def test_a_description_is_the_same_again_and_survives_json(
    glyphs: Description, data_dir: Path
) -> None:
    assert describe_data({"name": "glyphs"}, data_dir) == glyphs
    assert Description.from_json(json.loads(json.dumps(glyphs.to_json()))) == glyphs


@pytest.mark.parametrize("name", ["sinusoid", "function_families"])
def test_regression_has_landmarks_of_the_nearest_point(name: str, tmp_path: Path) -> None:
    found = describe_data({"name": name}, tmp_path)

    one, five = found.landmarks
    assert one.measure == "explained" and one.n_way == 0
    assert -1.0 <= one.mean < five.mean <= 1.0
    assert found.figures["targets"] == 1.0 and "items" not in found.figures


def test_a_mixture_counts_all_its_parts(
    glyphs: Description, data_dir: Path, tmp_path: Path
) -> None:
    folder = write(
        tmp_path / "pictures",
        {f"c{c}/{i}.png": picture(10 * c + i) for c in range(20) for i in range(12)},
    )
    mine = {"name": "folder", "part": "mine", "path": str(folder), "rename": {"image": "photo"}}
    found = describe_data({"name": "mixture", "parts": [{"name": "glyphs"}, mine]}, data_dir)

    assert found.figures["items"] == glyphs.figures["items"] + 240
    assert found.figures["items_a_class.max"] == 16
    assert len(found.landmarks) == 2


def test_features_of_an_encoder_give_frozen_landmarks_and_an_embedding(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", n_each=12)
    found = describe_data(options(folder), tmp_path)

    assert {each.inputs for each in found.landmarks} == {"frozen"}
    ((encoder, numbers),) = found.embeddings.items()
    assert encoder.startswith(ENCODER) and len(numbers) == LENGTH
    assert found.figures["kind.text"] == 1.0
    assert Description.from_json(found.to_json()) == found


def test_classes_too_small_for_five_shots_are_noted(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "pictures",
        {f"c{c}/{i}.png": picture(10 * c + i) for c in range(12) for i in range(3)},
    )
    found = describe_data({"name": "folder", "path": str(folder)}, tmp_path)

    assert [each.k_shot for each in found.landmarks] == [1]
    assert any("k_shot=5" in note for note in found.notes)


def test_items_with_several_labels_have_no_prototypes(tmp_path: Path) -> None:
    (tmp_path / "topics").mkdir()
    for number, split in enumerate(("train", "val", "test")):
        topics = range(6 * number, 6 * number + 6)
        write_topics(tmp_path / "topics" / f"{split}.csv", topics, n_items=60, seed=number)
    data: dict[str, Any] = {
        "name": "folder",
        "path": str(tmp_path / "topics"),
        "label": "labels",
        "label_separator": ";",
    }
    found = describe_data(data, tmp_path)

    assert found.landmarks == () and any("several labels" in note for note in found.notes)
    assert found.figures["classes.meta_train"] == 6


def test_data_that_are_not_there_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match="metafleet data prepare omniglot"):
        describe_data({"name": "omniglot"}, tmp_path)


@pytest.mark.parametrize("values", [None, [], {}, {"landmarks": [{"x": 1}]}], ids=repr)
def test_a_damaged_description_is_refused(values: object) -> None:
    with pytest.raises(DataCorruptError, match="data describe"):
        Description.from_json(values)
