from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from metafleet.episode import Episode, EpisodeShape
from metafleet.episodes.classes import ClassEpisodeSource
from metafleet.episodes.items import ClassRows, Modality
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng

COUNTS = {"meta_train": (7, 12, 5, 9, 20, 8, 15), "meta_test": (6, 6, 6)}
SHAPE = EpisodeShape(n_way=4, k_shot=2, n_query=5)


def make_source() -> ClassEpisodeSource:
    splits: dict[str, list[ClassRows]] = {}
    start = 0
    for split, counts in COUNTS.items():
        splits[split] = []
        for count in counts:
            splits[split].append(ClassRows(start, count))
            start += count
    values = torch.randn(start, 3, generator=torch.Generator().manual_seed(5))

    def row_numbers(rows: Sequence[int]) -> Tensor:
        return torch.tensor(rows, dtype=torch.float32).unsqueeze(1)

    modalities = {
        "row": Modality((1,), row_numbers),
        "value": Modality((3,), lambda rows: values[list(rows)]),
    }
    return ClassEpisodeSource(modalities, splits, name="toy")


def address(episode: int, *, seed: int = 3, split: str = "meta_train", step: int = 0) -> CounterRng:
    return CounterRng(seed, split, step, episode)


def rows_of(episode: Episode) -> tuple[list[int], list[int]]:
    support, query = (s.inputs["row"].flatten().int().tolist() for s in episode_sets(episode))
    return support, query


def episode_sets(episode: Episode) -> tuple:
    return episode.support, episode.query


def test_the_order_of_draws_is_the_documented_one():
    source = make_source()
    eligible = [
        (0, 7),
        (7, 12),
        (24, 9),
        (33, 20),
        (53, 8),
        (61, 15),
    ]  # without that of 5

    for index in range(20):
        rng = address(index)
        support, query = [], []
        for drawn in rng.sample(len(eligible), 4):
            start, count = eligible[drawn]
            items = [start + item for item in rng.sample(count, 7)]
            support += items[:2]
            query += items[2:]

        assert rows_of(source.sample("meta_train", SHAPE, address(index))) == (support, query)


def test_the_rows_of_one_address_never_change():
    episode = make_source().sample("meta_train", EpisodeShape(3, 1, 2), CounterRng(1, "s", 2, 3))

    assert rows_of(episode) == ([58, 0, 19], [55, 59, 2, 1, 21, 20])


def test_an_episode_depends_on_its_address_only():
    source = make_source()
    first = source.sample("meta_train", SHAPE, address(17))
    torch.manual_seed(99)
    for index in range(5):
        source.sample("meta_train", SHAPE, address(index))

    again = make_source().sample("meta_train", SHAPE, address(17))

    for before, after in zip(episode_sets(first), episode_sets(again), strict=True):
        assert torch.equal(before.inputs["value"], after.inputs["value"])
        assert torch.equal(before.targets, after.targets)


@pytest.mark.parametrize(
    "other",
    [
        address(18),
        address(17, seed=4),
        address(17, step=1),
        address(17, split="meta_val"),
    ],
)
def test_another_address_gives_another_episode(other):
    source = make_source()

    assert rows_of(source.sample("meta_train", SHAPE, address(17))) != rows_of(
        source.sample("meta_train", SHAPE, other)
    )


def test_support_and_query_share_no_item_and_belong_to_the_classes_of_their_targets():
    source = make_source()
    starts = [0, 7, 19, 24, 33, 53, 61, 76]
    seen = set()

    for index in range(200):
        episode = source.sample("meta_train", SHAPE, address(index))
        support, query = rows_of(episode)
        assert len({*support, *query}) == 4 * 7
        assert episode.support.targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        assert episode.query.targets.tolist() == sorted([0, 1, 2, 3] * 5)
        class_of = {}
        for rows, targets in ((support, episode.support.targets), (query, episode.query.targets)):
            for row, target in zip(rows, targets.tolist(), strict=True):
                found = next(i for i, start in enumerate(starts[1:]) if row < start)
                assert class_of.setdefault(target, found) == found
        assert len(set(class_of.values())) == 4
        seen |= {*support, *query}

    assert seen == {row for row in range(76) if not 19 <= row < 24}  # all but the class of 5


def test_a_modality_with_gaps_comes_with_a_mask_of_who_has_it():
    present = np.arange(94) % 3 > 0
    values = torch.arange(1.0, 95.0)[:, None] * torch.from_numpy(present)[:, None]
    source = ClassEpisodeSource(
        {
            "row": Modality((1,), lambda rows: torch.tensor(rows, dtype=torch.float32)[:, None]),
            "sound": Modality((1,), lambda rows: values[list(rows)], present),
        },
        {"meta_train": [ClassRows(0, 40), ClassRows(40, 54)]},
        name="toy",
    )

    episode = source.sample("meta_train", EpisodeShape(2, 5, 9), address(0))

    for part, rows in zip(episode_sets(episode), rows_of(episode), strict=True):
        assert list(part.inputs) == ["row", "sound", "sound.present"]
        mask = part.inputs["sound.present"]
        assert mask.dtype == torch.float32
        assert mask.tolist() == [float(row % 3 > 0) for row in rows]
        assert 0 < mask.sum() < len(mask)
        assert torch.equal(part.inputs["sound"][:, 0] > 0, mask > 0)
    assert list(source.modalities) == ["row", "sound"]


def test_targets_may_be_changed_without_harm_to_the_next_episode():
    source = make_source()
    source.sample("meta_train", SHAPE, address(0)).support.targets.zero_()

    assert source.sample("meta_train", SHAPE, address(1)).support.targets.max() == 3


def test_every_modality_shows_the_same_items():
    source = make_source()
    episode = source.sample("meta_test", EpisodeShape(3, 1, 4), address(0))
    everything = source.sample("meta_test", EpisodeShape(3, 1, 4), address(0))

    assert source.modalities == {"row": (1,), "value": (3,)}
    assert list(episode.query.inputs) == ["row", "value"]
    assert episode.query.inputs["value"].shape == (12, 3)
    assert torch.equal(episode.query.inputs["value"], everything.query.inputs["value"])


@pytest.mark.parametrize(
    ("split", "shape", "message"),
    [
        ("meta_test", EpisodeShape(4, 1, 1), "n_way=4 but split 'meta_test' of 'toy' has 3"),
        ("meta_test", EpisodeShape(3, 2, 5), "k_shot + n_query = 7 .*the largest has 6 items"),
        ("meta_train", EpisodeShape(4, 5, 10), "has 2 classes so large"),
        ("meta_train", EpisodeShape(1, 1, 1), "n_way=1"),
        ("meta_train", EpisodeShape(0, 1, 1), "classification"),
        ("meta_train", EpisodeShape(5, 0, 1), "k_shot=0; expected 1 or more"),
        ("meta_train", EpisodeShape(5, 1, 0), "n_query=0; expected 1 or more"),
        ("meta_trian", EpisodeShape(5, 1, 1), "no split 'meta_trian'; its splits are: meta_train"),
    ],
)
def test_a_shape_that_cannot_be_filled_is_refused_by_check_and_by_sample(split, shape, message):
    source = make_source()

    with pytest.raises(ConfigError, match=message.replace("+", r"\+")):
        source.check(split, shape)
    with pytest.raises(ConfigError, match=message.replace("+", r"\+")):
        source.sample(split, shape, address(0))


def test_a_shape_that_can_be_filled_passes():
    source = make_source()

    source.check("meta_train", SHAPE)
    source.check("meta_test", EpisodeShape(3, 1, 5))
    assert (source.n_classes("meta_train"), source.n_classes("meta_test")) == (7, 3)
    assert source.target_dim == 0


@pytest.mark.parametrize("name", ["class_text", "sound.present", "two words", ""])
def test_a_modality_of_a_name_that_means_something_else_is_refused(name: str):
    modalities = {name: Modality((1,), lambda rows: torch.zeros(len(rows), 1))}

    with pytest.raises(ConfigError, match=f"modality '{name}' of data set 'toy'; expected a name"):
        ClassEpisodeSource(modalities, {"meta_train": [ClassRows(0, 5)]}, name="toy")


def test_the_training_mean_is_that_of_the_training_items_that_have_the_modality() -> None:
    rng = np.random.default_rng(2)
    values, present = rng.normal(size=(3000, 4)), rng.random(3000) < 0.7
    splits = {"meta_train": [ClassRows(100, 900), ClassRows(1500, 700)], "meta_test": []}
    modality = Modality((4,), lambda rows: torch.from_numpy(values[rows]).float(), present)
    source = ClassEpisodeSource({"value": modality}, splits, name="toy")

    found = source.training_mean("value")

    rows = np.r_[100:1000, 1500:2200]
    expected = values[rows][present[rows]].mean(axis=0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    assert found.dtype == torch.float32


def test_the_training_mean_without_training_items_is_zero() -> None:
    modality = Modality((2,), lambda rows: torch.ones(len(rows), 2))
    source = ClassEpisodeSource({"value": modality}, {"meta_test": [ClassRows(0, 5)]}, name="toy")
    assert source.training_mean("value").tolist() == [0.0, 0.0]
