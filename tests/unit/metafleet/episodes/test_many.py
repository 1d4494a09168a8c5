"""Many episodes at once: the same items as one by one."""

import numpy as np
import pytest
import torch

from metafleet.episode import EpisodeShape
from metafleet.episodes.classes import ClassEpisodeSource
from metafleet.episodes.items import ClassRows, Modality
from metafleet.episodes.many import EligibleClasses, prototype_scores
from metafleet.errors import ConfigError
from metafleet.learners.prototypes import prototype_logits
from metafleet.seeds import CounterRng

COUNTS = (7, 12, 5, 9, 20, 8, 15, 31)
SHAPES = [
    EpisodeShape(4, 2, 5),
    EpisodeShape(5, 1, 1),
    EpisodeShape(8, 1, 3),
    EpisodeShape(2, 3, 9),
]


def classes() -> list[ClassRows]:
    starts = np.cumsum([3, *COUNTS])
    return [ClassRows(int(start), count) for start, count in zip(starts, COUNTS, strict=False)]


def make_source() -> ClassEpisodeSource:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(3 + sum(COUNTS), 6, generator=generator)
    present = torch.rand(len(values), generator=generator).numpy() < 0.6
    modality = Modality((6,), lambda rows: values[list(rows)], present)
    return ClassEpisodeSource({"value": modality}, {"meta_test": classes()}, name="toy")


def addresses(n: int = 200) -> list[CounterRng]:
    return [CounterRng(3, "meta_test", 1, index) for index in range(n)]


@pytest.mark.parametrize("n", [1, 200])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.n_way}-{shape.k_shot}")
def test_many_episodes_are_those_drawn_one_by_one(shape: EpisodeShape, n: int) -> None:
    source = make_source()
    many = source.sample_many("meta_test", shape, addresses(n))
    for i, rng in enumerate(addresses(n)):
        episode = source.sample("meta_test", shape, rng)
        for name in ("value", "value.present"):
            assert torch.equal(many.support[name][i].flatten(0, 1), episode.support.inputs[name])
            assert torch.equal(many.query[name][i].flatten(0, 1), episode.query.inputs[name])


class SmallWords(CounterRng):
    """A stream with words of 0, which ``sample`` refuses unless the bound is a power of 2."""

    def _block(self, counter: int) -> bytes:
        words = np.frombuffer(super()._block(counter), "<u8").copy()
        words[1] = 0
        return words.tobytes()


def test_a_word_that_one_by_one_refuses_is_refused() -> None:
    own, need, n = classes()[3:], 6, 20
    refused = [SmallWords(3, "meta_test", 1, index) for index in range(n)]
    found = EligibleClasses(own, need).draw_many(4, refused)
    for i in range(n):
        rng = SmallWords(3, "meta_test", 1, i)
        drawn = [own[place] for place in rng.sample(len(own), 4)]
        expected = [[rows.start + item for item in rng.sample(rows.count, need)] for rows in drawn]
        assert found[i].tolist() == expected


@pytest.mark.parametrize("k_shot", [1, 2])
def test_scores_of_many_episodes_are_the_logits_of_each(k_shot: int) -> None:
    generator = torch.Generator().manual_seed(8)
    support, query = (torch.randn(7, 4, k, 6, generator=generator).double() for k in (k_shot, 5))
    found = prototype_scores(support, query)
    for i in range(7):
        targets = torch.arange(4).repeat_interleave(k_shot)
        logits = prototype_logits(support[i].flatten(0, 1), targets, query[i].flatten(0, 1), 4)
        expected = logits + query[i].flatten(0, 1).square().sum(dim=1, keepdim=True)
        torch.testing.assert_close(found[i].flatten(0, 1), expected)


def test_episodes_that_are_not_ordinary_are_refused() -> None:
    shape = EpisodeShape(4, 2, 5, missing_rate=0.2)
    with pytest.raises(ConfigError, match=r"missing_rate=0.2; many episodes at once"):
        make_source().sample_many("meta_test", shape, addresses(2))
