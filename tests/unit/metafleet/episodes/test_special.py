from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from unicodedata import normalize

import numpy as np
import pytest
import torch
from torch import Tensor

from metafleet.episode import CLASS_TEXT, Episode, EpisodeShape, presence_key
from metafleet.episodes.class_names import count_leaks, name_bytes
from metafleet.episodes.classes import ClassEpisodeSource
from metafleet.episodes.drawing import Candidates, draw_items, uneven_shots
from metafleet.episodes.items import ClassRows, Modality
from metafleet.episodes.masking import drop_modalities
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng

COUNTS = (7, 12, 5, 9, 20, 8, 15)
N_ITEMS = sum(COUNTS)
NAMES = ("sun", "red_fox", "oak-tree", "owl", "sea", "ant", "pine cone")
SIZE = {"n_way": 4, "k_shot": 2, "n_query": 3}
HAS_SOUND = np.arange(N_ITEMS) % 2 == 0
HAS_IMAGE = np.arange(N_ITEMS) % 3 > 0


def make_source(texts: list[str] | None = None) -> ClassEpisodeSource:
    """A row number that all items have, an image and a sound with gaps, and perhaps a text."""
    starts = np.cumsum([0, *COUNTS])
    values = torch.randn(N_ITEMS, 2, 3, generator=torch.Generator().manual_seed(1))

    def with_gaps(has: np.ndarray) -> Modality:
        kept = values * torch.from_numpy(has)[:, None, None]
        return Modality((2, 3), lambda rows: kept[list(rows)], has)

    modalities = {
        "row": Modality((1,), lambda rows: torch.tensor(rows, dtype=torch.float32)[:, None]),
        "image": with_gaps(HAS_IMAGE),
        "sound": with_gaps(HAS_SOUND),
    }
    if texts is not None:
        stored = torch.stack([name_bytes(text) for text in texts])
        modalities["text"] = Modality((64,), lambda rows: stored[list(rows)], is_text=True)
    classes = [ClassRows(int(a), int(b - a)) for a, b in pairwise(starts)]
    return ClassEpisodeSource(
        modalities, {"meta_train": classes}, name="toy", class_names={"meta_train": NAMES}
    )


def sample(source: ClassEpisodeSource, index: int, **fields: object) -> Episode:
    shape = EpisodeShape(**(SIZE | fields))
    source.check("meta_train", shape)
    return source.sample("meta_train", shape, CounterRng(3, "meta_train", 0, index))


def rows_of(episode: Episode) -> tuple[list[int], list[int]]:
    support, query = (
        part.inputs["row"].flatten().int().tolist() for part in (episode.support, episode.query)
    )
    return support, query


def test_a_missing_rate_takes_modalities_from_the_items_of_the_ordinary_episode() -> None:
    source = make_source()
    lost = []
    for index in range(60):
        plain, episode = sample(source, index), sample(source, index, missing_rate=0.4)
        for part, whole in ((episode.support, plain.support), (episode.query, plain.query)):
            assert torch.equal(part.targets, whole.targets)
            masks = torch.stack([part.inputs[presence_key(n)] for n in ("row", "image", "sound")])
            assert bool((masks.sum(dim=0) >= 1).all())  # one always stays
            for name, mask in zip(("row", "image", "sound"), masks, strict=True):
                had = whole.inputs.get(presence_key(name), torch.ones(len(mask)))
                assert bool((mask <= had).all())
                shape = (-1, *[1] * (part.inputs[name].dim() - 1))
                expected = whole.inputs[name] * mask.reshape(shape)
                assert torch.equal(part.inputs[name], expected)
                lost.append(float((had - mask).sum() / had.sum()))
    assert 0.3 < np.mean(lost) < 0.4  # the last one of an item is never lost


def test_a_modality_is_lost_as_often_as_asked_where_others_stay() -> None:
    shown = np.ones((4000, 3), np.bool_)
    kept = drop_modalities(shown, 0.3, CounterRng(1, "s"))
    # all three are lost with 0.3 cubed, and then one of them stays
    assert kept.mean() == pytest.approx(0.7 + 0.3**3 / 3, abs=0.02)
    assert kept.any(axis=1).all()
    assert not drop_modalities(np.zeros((2, 3), np.bool_), 0.3, CounterRng(1, "s")).any()


def test_an_episode_with_missing_modalities_depends_on_its_address_only() -> None:
    first = sample(make_source(), 7, missing_rate=0.4)
    source = make_source()
    for index in range(4):
        sample(source, index, missing_rate=0.4)
    again = sample(source, 7, missing_rate=0.4)
    for name, values in first.query.inputs.items():
        assert torch.equal(values, again.query.inputs[name]), name
    other = sample(source, 8, missing_rate=0.4)
    assert rows_of(other) != rows_of(first)


def test_support_and_query_may_show_different_modalities() -> None:
    source = make_source()
    seen = set()
    for index in range(200):
        episode = sample(source, index, support_modalities=("sound",), query_modalities=("image",))
        for part, shown, has in (
            (episode.support, "sound", HAS_SOUND),
            (episode.query, "image", HAS_IMAGE),
        ):
            for name in ("row", "image", "sound"):
                assert bool((part.inputs[presence_key(name)] == float(name == shown)).all())
                assert bool((part.inputs[name] != 0).any()) is (name == shown)
            assert has.any()
        seen.add(tuple(episode.support.inputs["sound"].flatten().tolist()))
    assert len(seen) > 190


def test_only_items_that_have_what_is_to_be_shown_are_drawn_and_none_twice() -> None:
    source = make_source()
    for index in range(200):
        shape = {"support_modalities": ("sound", "row"), "query_modalities": ("image", "row")}
        support, query = rows_of(sample(source, index, **shape))
        assert len({*support, *query}) == len(support) + len(query)
    drawn = set()
    for index in range(300):
        candidates = Candidates(0, (1, 2, 3, 5), (2, 3, 4))
        support, query = draw_items(candidates, 2, 2, CounterRng(1, "s", 0, index))
        assert set(support) <= {1, 2, 3, 5}
        assert set(query) <= {2, 3, 4}
        assert len({*support, *query}) == 4
        drawn.add((tuple(sorted(support)), tuple(sorted(query))))
    # every pair of sets that leaves two queries
    assert drawn == {
        *(((1, 5), q) for q in ((2, 3), (2, 4), (3, 4))),
        *((tuple(sorted((a, 2))), (3, 4)) for a in (1, 5)),
        *((tuple(sorted((a, 3))), (2, 4)) for a in (1, 5)),
    }


def test_a_class_gives_what_it_has_and_no_more() -> None:
    assert Candidates(0, (1, 2), (2, 3)).can_give(1, 2)
    assert Candidates(0, (1, 2), (2, 3)).can_give(2, 1)
    assert not Candidates(0, (1, 2), (2, 3)).can_give(2, 2)
    assert not Candidates(0, (1, 2), (2, 3)).can_give(3, 0)


def test_uneven_shots_keep_their_number_and_leave_no_class_out() -> None:
    source = make_source()
    seen = Counter()
    for index in range(300):
        episode = sample(source, index, shots="uneven", k_shot=3)
        counts = torch.bincount(episode.support.targets, minlength=4)
        assert int(counts.sum()) == 12
        assert int(counts.min()) >= 1
        assert torch.bincount(episode.query.targets).tolist() == [3] * 4
        support, query = rows_of(episode)
        assert len({*support, *query}) == 24
        seen.update(counts.tolist())
    assert set(seen) >= set(range(1, 8))


def test_every_way_to_share_shots_out_is_as_likely() -> None:
    shape = EpisodeShape(3, 2, 1)
    draws = Counter(
        tuple(uneven_shots([9, 9, 9], shape, CounterRng(1, "s", 0, i))) for i in range(5000)
    )
    assert len(draws) == 10  # ways to write 6 as a sum of three
    assert all(400 < n < 600 for n in draws.values())
    tight = uneven_shots([1, 2, 3], shape, CounterRng(1, "s"))
    assert tight == [1, 2, 3]


def test_class_names_are_with_the_support_set_alone() -> None:
    source = make_source(["nothing"] * N_ITEMS)
    episode = sample(source, 3, class_text=True)
    support, query = episode.support.inputs, episode.query.inputs
    assert bool((support[presence_key(CLASS_TEXT)] == 1).all())
    assert not query[CLASS_TEXT].any()
    assert not query[presence_key(CLASS_TEXT)].any()
    starts = np.cumsum([0, *COUNTS])
    for row, text in zip(support["row"].int().flatten(), support[CLASS_TEXT], strict=True):
        name = NAMES[int(np.searchsorted(starts, int(row), side="right")) - 1]
        assert torch.equal(text, name_bytes(name))


def test_a_query_text_that_tells_its_class_is_refused_with_a_way_out() -> None:
    owners = [i for i, count in enumerate(COUNTS) for _ in range(count)]
    texts = [f"it is a {NAMES[i]}!" if row in (3, 40) else "?" for row, i in enumerate(owners)]
    source = make_source(texts)
    with pytest.raises(ConfigError, match="2 items of split 'meta_train' say the name") as caught:
        source.check("meta_train", EpisodeShape(**SIZE, class_text=True))
    assert "leave 'text' out of query_modalities" in str(caught.value)
    source.check("meta_train", EpisodeShape(**SIZE, class_text=True, query_modalities=("image",)))
    source.check("meta_train", EpisodeShape(**SIZE))


@pytest.mark.parametrize("modality", ["text", "caption"])
def test_features_of_a_text_that_cannot_be_searched_are_refused_with_a_way_out(
    modality: str,
) -> None:
    features = torch.zeros(N_ITEMS, 384)
    starts = np.cumsum([0, *COUNTS])
    modalities = {
        "image": Modality((384,), lambda rows: features[list(rows)]),
        modality: Modality((384,), lambda rows: features[list(rows)], is_text_features=True),
    }
    classes = [ClassRows(int(a), int(b - a)) for a, b in pairwise(starts)]
    source = ClassEpisodeSource(
        modalities, {"meta_train": classes}, name="toy", class_names={"meta_train": NAMES}
    )

    with pytest.raises(ConfigError, match=f"{modality!r} is features of texts, .* might tell it"):
        source.check("meta_train", EpisodeShape(**SIZE, class_text=True))
    source.check("meta_train", EpisodeShape(**SIZE, class_text=True, query_modalities=("image",)))
    source.check("meta_train", EpisodeShape(**SIZE))


def test_texts_are_searched_for_names_some_at_a_time() -> None:
    per_class, name = 1300, b"red fox"
    texts = torch.zeros(2 * per_class, 8)
    texts[[0, 1023, 1024, 2599], : len(name)] = torch.tensor(list(name), dtype=torch.float32)
    asked: list[int] = []

    def gather(rows: Sequence[int]) -> Tensor:
        asked.append(len(rows))
        return texts[list(rows)]

    source = ClassEpisodeSource(
        {"text": Modality((8,), gather, is_text=True)},
        {"meta_train": [ClassRows(0, per_class), ClassRows(per_class, per_class)]},
        name="toy",
        class_names={"meta_train": ["red fox", "owl"]},
    )

    with pytest.raises(ConfigError, match="3 items of split 'meta_train' say the name"):
        source.check("meta_train", EpisodeShape(2, 1, 1, class_text=True))
    assert asked == [1024, 1024, 552]


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("Red Fox", True),
        ("a RED-FOX ran", True),
        ("red_fox", True),
        ("redfox", False),
        ("red foxes", False),
        ("a fox, red", False),
    ],
)
def test_a_name_is_found_as_whole_words_in_any_writing(text: str, tells: bool) -> None:
    raw = list(text.encode().ljust(64, b"\0"))
    assert count_leaks(["red_fox"], [(0, raw)]) == int(tells)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"missing_rate": 1.0}, "missing_rate=1.0; expected 0 or more, less than 1"),
        ({"missing_rate": -0.1}, "missing_rate=-0.1"),
        ({"parts": ("a",)}, "parts=['a'] but data set 'toy' is no mixture"),
        (
            {"support_modalities": ("ink",)},
            "support_modalities holds 'ink'; the data have 'row', 'image', 'sound'",
        ),
        (
            {"shots": "uneven", "query_modalities": ("image",)},
            "shots='uneven' with support_modalities or query_modalities",
        ),
        (
            {"n_way": 7, "k_shot": 3, "missing_rate": 0.1},
            "with missing_rate=0.1, but split 'meta_train' of 'toy' has 6 classes",
        ),
        (
            {"support_modalities": ("sound",), "k_shot": 6},
            "has 3 classes with items for that; lower n_query, k_shot or n_way",
        ),
        ({"shots": "uneven", "k_shot": 12}, "has 3 classes with items for that"),
    ],
)
def test_a_shape_that_cannot_be_filled_is_refused_with_its_fields(
    fields: dict[str, object], message: str
) -> None:
    shape = EpisodeShape(**(SIZE | fields))
    with pytest.raises(ConfigError) as caught:
        make_source().check("meta_train", shape)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_are_not_known_are_not_shown() -> None:
    source = ClassEpisodeSource(
        {"row": Modality((1,), lambda rows: torch.zeros(len(rows), 1))},
        {"meta_train": [ClassRows(0, 5), ClassRows(5, 5)]},
        name="toy",
    )
    with pytest.raises(ConfigError, match="data set 'toy' has no class names"):
        source.check("meta_train", EpisodeShape(2, 1, 1, class_text=True))


def test_an_ordinary_shape_says_nothing_special() -> None:
    assert EpisodeShape(5, 1, 15).is_ordinary
    assert EpisodeShape(5, 1, 15, missing_rate=0.1).special() == {"missing_rate": 0.1}


def test_a_text_tells_its_class_in_either_spelling_of_a_character() -> None:
    raw = normalize("NFD", "a café at night").encode()

    assert count_leaks([normalize("NFC", "café")], [(0, raw)]) == 1
