"""Episodes of items with several labels."""

from collections import Counter

import pytest
import torch

from metafleet.episode import Episode, EpisodeShape
from metafleet.episodes.items import ClassRows, Modality
from metafleet.episodes.labels import LabelEpisodeSource, LabelSets
from metafleet.episodes.mixture import MixturePart, MixtureSource
from metafleet.episodes.problem_of import problem_of
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng

SHAPE = EpisodeShape(n_way=3, k_shot=2, n_query=3)


def make_source(sets: list[tuple[int, set[str]]]) -> LabelEpisodeSource:
    """Make a source of sets of labels, each of some items in a row; the input is the row."""
    rows, start = [], 0
    for count, labels in sets:
        rows.append((ClassRows(start, count), frozenset(labels)))
        start += count
    modality = Modality((1,), lambda rows: torch.tensor(rows, dtype=torch.float32)[:, None])
    labels = sorted({label for _, of_set in sets for label in of_set})
    return LabelEpisodeSource(
        {"row": modality},
        {"meta_train": labels},
        {"meta_train": LabelSets(rows)},
        name="toy",
        label_separator=";",
    )


SETS = [
    (9, {"a"}),
    (4, {"a", "b"}),
    (7, {"b"}),
    (5, {"b", "c", "d"}),
    (6, {"c"}),
    (8, {"d"}),
    (3, {"e"}),
]


def labels_by_row(sets: list[tuple[int, set[str]]]) -> list[set[str]]:
    return [labels for count, labels in sets for _ in range(count)]


def rows_of(episode: Episode) -> tuple[list[int], list[int]]:
    support, query = (
        it.inputs["row"].flatten().int().tolist() for it in (episode.support, episode.query)
    )
    return support, query


def labels_of(episode: Episode, sets: list[tuple[int, set[str]]]) -> list[str]:
    """Find out which labels an episode has, by its targets and items."""
    owners, (support, query) = labels_by_row(sets), rows_of(episode)
    targets = torch.cat([episode.support.targets, episode.query.targets])
    found = []
    for place in range(episode.n_way):
        has = {n for n, hot in zip(support + query, targets[:, place], strict=True) if hot}
        fits = [
            label
            for label in "abcde"
            if has == {n for n in support + query if label in owners[n]} and has
        ]
        found.append(fits[0])
    return found


@pytest.mark.parametrize("index", range(30))
def test_an_episode_has_enough_items_of_each_label_none_twice(index: int) -> None:
    source = make_source(SETS)

    episode = source.sample("meta_train", SHAPE, CounterRng(3, "meta_train", 1, index))

    support, query = rows_of(episode)
    assert len(support) == 3 * 2 and len(query) == 3 * 3
    assert len({*support, *query}) == len(support) + len(query)
    assert episode.support.targets.shape == (6, 3)
    assert episode.support.targets.dtype == torch.float32
    assert bool((episode.support.targets.sum(dim=0) >= 2).all())
    assert bool((episode.query.targets.sum(dim=0) >= 3).all())
    labels = labels_of(episode, SETS)
    assert len(set(labels)) == 3
    assert "e" not in labels  # of which there are too few items
    owners = labels_by_row(SETS)
    for rows, targets in ((support, episode.support.targets), (query, episode.query.targets)):
        for row, hot in zip(rows, targets.tolist(), strict=True):
            assert hot == [float(label in owners[row]) for label in labels]


def test_the_order_of_draws_is_the_documented_one() -> None:
    sets = [(10, {"a"}), (10, {"a", "b"}), (10, {"b"})]
    source, shape = make_source(sets), EpisodeShape(2, 2, 3)
    rng = CounterRng(7, "meta_train", 2, 5)
    rows = {"a": list(range(20)), "b": list(range(10, 30))}
    taken: list[int] = []
    support, query = [], []
    for place in rng.sample(2, 2):
        own = rows["ab"[place]]
        drawn = [own[i] for i in rng.sample(20, 5 + len(taken))]
        free = [row for row in drawn if row not in taken][:5]
        support += free[:2]
        query += free[2:]
        taken += free

    episode = source.sample("meta_train", shape, CounterRng(7, "meta_train", 2, 5))

    assert rows_of(episode) == (support, query)


def test_labels_and_items_are_drawn_alike_often() -> None:
    sets = [(20, {label}) for label in "abcd"]
    source, shape = make_source(sets), EpisodeShape(2, 1, 1)
    drawn: Counter[int] = Counter()
    for index in range(2000):
        drawn.update(rows_of(source.sample("meta_train", shape, CounterRng(1, "x", 0, index)))[0])

    per_row = [drawn[row] for row in range(80)]
    assert sum(per_row) == 4000
    # each of 80 items is drawn 50 times of 4000, with a standard deviation of 7
    assert min(per_row) > 50 - 5 * 7 and max(per_row) < 50 + 5 * 7


def test_labels_that_share_most_items_are_not_drawn_together() -> None:
    sets = [(6, {"a", "b"}), (6, {"c"})]
    source, shape = make_source(sets), EpisodeShape(2, 2, 2)
    source.check("meta_train", shape)

    for index in range(50):
        episode = source.sample("meta_train", shape, CounterRng(1, "x", 0, index))
        assert bool((episode.support.targets.sum(dim=1) == 1).all())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (EpisodeShape(6, 1, 1), "n_way=6 but split 'meta_train' of 'toy' has 5 labels"),
        (EpisodeShape(1, 1, 1), "n_way=1; expected 2"),
        (EpisodeShape(3, 8, 7), r"only 1 labels .* have so many \('a' has 13\); lower n_query"),
        (EpisodeShape(2, 1, 1, shots="uneven"), "shots='uneven', but .* several labels an item"),
        (EpisodeShape(2, 0, 1), "k_shot=0; expected 1 or more"),
    ],
    ids=str,
)
def test_episodes_that_cannot_be_filled_are_refused(shape: EpisodeShape, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_source(SETS).check("meta_train", shape)


def test_labels_that_always_come_together_are_refused() -> None:
    source = make_source([(6, {"a", "b", "c"})])

    with pytest.raises(ConfigError, match=r"no 2 labels with 4 items of their own each"):
        source.check("meta_train", EpisodeShape(2, 2, 2))


def test_the_problem_has_several_labels_and_a_mixture_of_them_is_refused() -> None:
    source = make_source(SETS)

    problem = problem_of(source, {"meta_train": SHAPE})

    assert problem.is_multi_label and not problem.is_regression
    with pytest.raises(ConfigError, match="part 'toy' has several labels an item"):
        MixtureSource([MixturePart("toy", source)])


def test_the_training_mean_counts_every_item_once() -> None:
    source = make_source(SETS)
    n_items = sum(count for count, _ in SETS)
    assert source.training_mean("row").tolist() == [(n_items - 1) / 2]
