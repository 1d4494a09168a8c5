"""Episodes of meta-training draw a view of each item, from a stream of their own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metafleet.episode import META_TEST, META_TRAIN, META_VAL, Episode, EpisodeShape
from metafleet.episodes.classes import ClassEpisodeSource
from metafleet.episodes.items import ClassRows, Modality
from metafleet.episodes.labels import LabelEpisodeSource, LabelSets
from metafleet.seeds import CounterRng

N_VIEWS = {"image": 5, "audio": 3, "text": 1}
CLASSES = [ClassRows(6 * number, 6) for number in range(6)]
SHAPE = EpisodeShape(n_way=4, k_shot=2, n_query=3)


def modality(n_views: int) -> Modality:
    """An example is the number of its row and of its view."""

    def gather(rows: Any) -> Tensor:
        return torch.tensor([[float(row), 0.0] for row in rows])

    def gather_views(rows: Any, views: Any) -> Tensor:
        assert all(view >= 1 for view in views)
        return torch.tensor([[float(row), float(v)] for row, v in zip(rows, views, strict=True)])

    return Modality((2,), gather, views=n_views, gather_views=gather_views)


def make_source(**n_views: int) -> ClassEpisodeSource:
    modalities = {name: modality(n) for name, n in (n_views or N_VIEWS).items()}
    splits = dict.fromkeys((META_TRAIN, META_VAL, META_TEST), CLASSES)
    return ClassEpisodeSource(modalities, splits, name="toy")


def address(index: int, split: str = META_TRAIN, seed: int = 3) -> CounterRng:
    return CounterRng(seed, split, 7, index)


def column(episode: Episode, name: str, place: int) -> list[int]:
    both = (episode.support, episode.query)
    return [int(row[place]) for part in both for row in part.inputs[name]]


@pytest.mark.parametrize(
    "shape", [SHAPE, EpisodeShape(4, 2, 3, shots="uneven")], ids=["ordinary", "uneven"]
)
def test_views_are_those_of_the_documented_stream_and_change_no_item(shape: EpisodeShape) -> None:
    viewed, plain = make_source(), make_source(image=1, audio=1, text=1)
    for index in range(20):
        own = CounterRng(3, "meta_train/view", 7, index)
        expected = {n: [own.integer(N_VIEWS[n]) for _ in range(20)] for n in ("image", "audio")}
        episode = viewed.sample(META_TRAIN, shape, address(index))
        other = plain.sample(META_TRAIN, shape, address(index))
        for name in N_VIEWS:
            assert column(episode, name, 0) == column(other, name, 0)
            assert column(episode, name, 1) == expected.get(name, [0] * 20)


@pytest.mark.parametrize("split", [META_VAL, META_TEST])
def test_other_splits_have_the_items_themselves(split: str) -> None:
    for index in range(5):
        episode = make_source().sample(split, SHAPE, address(index, split))
        assert column(episode, "image", 1) == [0] * 20


@pytest.mark.parametrize("split", [META_TRAIN, META_TEST])
def test_many_episodes_have_the_views_of_one_by_one(split: str) -> None:
    source, addresses = make_source(), [address(index, split) for index in range(9)]
    many = source.sample_many(split, SHAPE, addresses)
    for i, rng in enumerate([address(index, split) for index in range(9)]):
        episode = source.sample(split, SHAPE, rng)
        for name in N_VIEWS:
            assert torch.equal(many.support[name][i].flatten(0, 1), episode.support.inputs[name])
            assert torch.equal(many.query[name][i].flatten(0, 1), episode.query.inputs[name])


def test_items_with_several_labels_have_views_too() -> None:
    labels = [frozenset({str(n)}) for n in range(6)]
    sets = LabelSets(list(zip(CLASSES, labels, strict=True)))
    splits: dict[str, Sequence[str]] = {META_TRAIN: [str(n) for n in range(6)]}
    source = LabelEpisodeSource(
        {"image": modality(5)}, splits, {META_TRAIN: sets}, name="toy", label_separator=";"
    )

    episode = source.sample(META_TRAIN, SHAPE, address(1))

    own = CounterRng(3, "meta_train/view", 7, 1)
    assert column(episode, "image", 1) == [own.integer(5) for _ in range(20)]


def test_a_stream_of_another_domain_has_its_address() -> None:
    rng = address(4)
    rng.integer(10)

    assert np.array_equal(rng.with_domain("x").uniforms(3), CounterRng(3, "x", 7, 4).uniforms(3))
