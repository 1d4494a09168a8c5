"""Names of classes as features in prepared data, in episodes, and on their way to workers."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from metafleet.data.prepared.data_ref import DataRef, files_of, receive
from metafleet.data.prepared.prepared import find_prepared
from metafleet.data.registry import encoder_identities, open_data
from metafleet.encoders import registry
from metafleet.encoders.class_texts import ClassTexts
from metafleet.episode import CLASS_TEXT, EpisodeShape, presence_key
from metafleet.episodes.problem_of import problem_of
from metafleet.errors import ConfigError, DataCorruptError
from metafleet.seeds import CounterRng
from tests.colour_words import RGB, TOWERS, ColourWords, draw

SHAPE = EpisodeShape(n_way=3, k_shot=2, n_query=1, class_text=True)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Options of a folder of colours, whose names are encoded."""
    monkeypatch.setattr(registry, "PACKAGED", {**registry.PACKAGED, "colour-words": ColourWords})
    registry._made.cache_clear()
    draw(tmp_path / "colours" / "train", RGB, n=3, seed=1)
    return {
        "name": "folder",
        "path": str(tmp_path / "colours"),
        "image": {"encoder": TOWERS},
        "class_text": {"encoder": TOWERS, "prompts": ["a {} thing"]},
    }


def test_episodes_show_the_features_of_the_names(
    options: dict[str, object], tmp_path: Path
) -> None:
    bound = open_data(options, tmp_path)
    source = bound.open_source()
    episode = source.sample("meta_train", SHAPE, CounterRng(1, "meta_train"))
    plain = source.sample("meta_train", EpisodeShape(3, 2, 1), CounterRng(1, "meta_train"))

    texts = ClassTexts(TOWERS, ("a {} thing",))
    known = {tuple(row): name for name, row in zip(RGB, texts.embed(list(RGB)), strict=True)}
    rows = episode.support.inputs[CLASS_TEXT]
    assert rows.shape == (6, 1 + len(RGB))
    labels = [known[tuple(row.numpy())] for row in rows]
    assert labels[::2] == labels[1::2] and len(set(labels)) == 3
    nearest = [list(RGB)[int(row[:-1].argmax())] for row in episode.support.inputs["image"]]
    assert nearest == labels
    assert not episode.query.inputs[CLASS_TEXT].any()
    assert not episode.query.inputs[presence_key(CLASS_TEXT)].any()
    assert torch.equal(episode.support.inputs["image"], plain.support.inputs["image"])
    problem = problem_of(source, {"meta_train": SHAPE})
    assert problem.modalities[CLASS_TEXT] == (1 + len(RGB),)
    assert CLASS_TEXT not in problem.texts and CLASS_TEXT in problem.partial
    assert encoder_identities(options, tmp_path)[CLASS_TEXT] == ColourWords().identity()


def test_prompts_decide_the_data_and_no_encoder_leaves_them_as_they_were(
    options: dict[str, object], tmp_path: Path
) -> None:
    def digest(**changed: object) -> str:
        return open_data({**options, **changed}, tmp_path).digest()

    def folder(**changed: object) -> str:
        found = open_data({**options, **changed}, tmp_path).open_classes()
        assert found is not None
        return found.prepared.path.name

    other = {"encoder": TOWERS, "prompts": ["{} on green"]}
    assert len({digest(), digest(class_text={}), digest(class_text=other)}) == 3
    assert folder(class_text=other) != folder() != folder(class_text={})
    without = {name: value for name, value in options.items() if name != "class_text"}
    found = open_data(without, tmp_path).open_classes()
    assert found is not None and found.prepared.class_text is None
    assert found.prepared.path.name == folder(class_text={})


def test_the_features_of_names_travel_and_are_checked(
    options: dict[str, object], tmp_path: Path
) -> None:
    data = open_data(options, tmp_path).open_classes()
    assert data is not None
    ref, path = DataRef.of(options, data), data.prepared.path
    assert "class_text.npy" in files_of(ref, data.prepared)

    def fetch(name: str, number: int, length: int) -> bytes:
        return (path / name).read_bytes()[:length]

    (tmp_path / "elsewhere" / "received").mkdir(parents=True)
    received = ref.open(receive(tmp_path / "elsewhere", ref, fetch)).open_source()
    shutil.copytree(path, tmp_path / "damaged")
    (tmp_path / "damaged" / "class_text.npy").write_bytes(b"short")

    here = data.open_source().sample("meta_train", SHAPE, CounterRng(1, "meta_train"))
    there = received.sample("meta_train", SHAPE, CounterRng(1, "meta_train"))
    np.testing.assert_array_equal(there.support.inputs[CLASS_TEXT], here.support.inputs[CLASS_TEXT])
    with pytest.raises(DataCorruptError, match=r"class_text\.npy"):
        find_prepared(tmp_path / "damaged")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_text": {"encoder": "package:none"}}, "there is no encoder 'package:none'"),
        ({"class_text": {"encoder": TOWERS, "prompts": ["no slot"]}}, "prompt='no slot'; expected"),
        ({"class_text": {"encoder": TOWERS, "prompts": []}}, "prompts=.*expected one prompt"),
        ({"class_text": {"encoder": TOWERS}, "label_separator": ";"}, "with class_text.encoder"),
        ({"class_text": {"prompt": "{}"}}, "no option 'prompt'"),
        ({"class_text": {"prompts": ["{}"]}}, "prompts=.*expected an encoder to go with them"),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    options: dict[str, object], changed: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_data({**options, **changed}, tmp_path).open_source()
    assert "\n" not in str(caught.value)


def test_a_mixture_has_no_features_of_names(options: dict[str, object], tmp_path: Path) -> None:
    mixture = {"name": "mixture", "parts": [options, {**options, "part": "again"}]}
    with pytest.raises(ConfigError, match="features of the names of classes, which a mixture"):
        open_data(mixture, tmp_path).open_source()
