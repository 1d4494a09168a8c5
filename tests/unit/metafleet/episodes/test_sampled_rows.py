"""The rows of an episode are those of the items that the same address draws."""

from typing import Any

import pytest

from metafleet.episode import EpisodeShape
from metafleet.episodes.mixture import MixturePart, MixtureSource
from metafleet.seeds import CounterRng
from tests.unit.metafleet.episodes.test_special import COUNTS, NAMES, SIZE, make_source, rows_of

_SPECIAL: list[dict[str, Any]] = [
    {},
    {"shots": "uneven"},
    {"missing_rate": 0.4},
    {"support_modalities": ("image",), "query_modalities": ("row", "sound")},
    {"class_text": True, "missing_rate": 0.2},
]


@pytest.mark.parametrize("special", _SPECIAL, ids=str)
def test_rows_are_those_of_the_episode(special: dict[str, Any]) -> None:
    source, shape = make_source(), EpisodeShape(**SIZE, **special)
    starts = [sum(COUNTS[:i]) for i in range(len(COUNTS) + 1)]
    for index in range(40):
        address = ("meta_train", 0, index)
        episode = source.sample("meta_train", shape, CounterRng(3, *address))
        found = source.sample_rows("meta_train", shape, CounterRng(3, *address))
        for rows, part in ((found.support, episode.support), (found.query, episode.query)):
            for row, target in zip(rows, part.targets.tolist(), strict=True):
                place = NAMES.index(found.classes[target])
                assert starts[place] <= row < starts[place + 1]
            shows = part.inputs.get("row.present")
            if shape.support_modalities == ():  # the modality "row" holds the number itself
                own = part.inputs["row"].flatten().tolist()
                for i, row in enumerate(rows):
                    assert (shows is not None and not shows[i]) or own[i] == row
        if not special:
            assert (list(found.support), list(found.query)) == rows_of(episode)


def test_a_mixture_names_the_part_of_the_episode() -> None:
    source = make_source()
    mixture = MixtureSource([MixturePart("a", source), MixturePart("b", source, 2)])
    shape = EpisodeShape(**SIZE)
    found = [
        mixture.sample_rows("meta_train", shape, CounterRng(3, "meta_train", 0, index))
        for index in range(6)
    ]
    assert [rows.part for rows in found if rows] == ["a", "b", "b", "a", "b", "b"]
    alone = source.sample_rows("meta_train", shape, CounterRng(3, "meta_train", 0, 4))
    assert found[4] is not None and found[4].support == alone.support
