"""All glyphs, as the demo uses them."""

import pytest
import torch

from metafleet.data.registry import open_data, open_source
from metafleet.episode import EpisodeShape
from metafleet.episodes.source import EpisodeSource
from metafleet.seeds import CounterRng

OPTIONS = {"name": "glyphs"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("glyphs")


def nearest_prototype(source: EpisodeSource, n_way: int, n_episodes: int = 200) -> float:
    """Return the accuracy on raw pixels at 1 shot."""
    right = total = 0
    for index in range(n_episodes):
        rng = CounterRng(1, "meta_test", 0, index)
        episode = source.sample("meta_test", EpisodeShape(n_way, 1, 5), rng)
        support, query = (s.inputs["image"].flatten(1) for s in (episode.support, episode.query))
        right += int((torch.cdist(query, support).argmin(1) == episode.query.targets).sum())
        total += len(query)
    return right / total


def test_there_are_classes_enough_for_20_way_episodes_in_every_split(data_dir):
    summary = open_data(OPTIONS, data_dir).summarise()

    classes = {split: holds.classes for split, holds in summary.splits.items()}
    assert classes["meta_train"] > 1500
    assert classes["meta_val"] > 200 and classes["meta_test"] > 200
    assert all(holds.fewest_items >= 8 for holds in summary.splits.values())
    assert set(summary.splits["meta_test"].groups) == {"Armenian", "Georgian", "Lao"}


def test_unseen_scripts_are_neither_trivial_nor_hopeless_for_raw_pixels(data_dir):
    source = open_source(OPTIONS, data_dir)

    assert 0.80 < nearest_prototype(source, 5) < 0.95
    assert 0.65 < nearest_prototype(source, 20) < 0.88
