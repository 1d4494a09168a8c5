"""Draw the rows of many ordinary episodes at once.

The rows are those that ``CounterRng.sample`` draws for each single episode. Each episode's own
``CounterRng`` hashes its 64-bit words. The arithmetic on the words is done for all episodes
together, which takes a third of the time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from metafleet.episodes.items import ClassRows
from metafleet.params import Params
from metafleet.seeds import CounterRng

Integers = npt.NDArray[np.int64]
_LOW_32 = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


class ManyEpisodes(NamedTuple):
    """Ordinary episodes of one shape, side by side. The class of an example is its second index.

    Attributes:
        support: input -> float [episodes, n_way, k_shot, ...].
        query: input -> float [episodes, n_way, n_query, ...].
    """

    support: Params
    query: Params


def prototype_scores(support: Tensor, query: Tensor) -> Tensor:
    """Return the logits of prototypes for many episodes at once, up to a constant for each query.

    For a query q and a prototype c, the score is 2 q c - |c|^2. It is the usual logit, -|q - c|^2,
    plus |q|^2, on which neither softmax nor argmax depends.

    Args:
        support: [episodes, n_way, k_shot, d].
        query: [episodes, n_way, n_query, d].

    Returns:
        [episodes, n_way, n_query, n_way]; the last axis is the prototype.
    """
    prototypes = support.mean(dim=2)
    products = query.flatten(1, 2) @ prototypes.transpose(1, 2)
    scores = 2.0 * products - prototypes.square().sum(dim=-1)[:, None]
    return scores.view(*query.shape[:3], -1)


def draw_rows(
    eligible: Sequence[ClassRows], n_way: int, need: int, rngs: Sequence[CounterRng]
) -> Integers:
    """Draw ``need`` different items of each of ``n_way`` different classes for every episode.

    Args:
        eligible: classes of at least ``need`` items each, at least ``n_way`` of them.
        n_way: classes of an episode.
        need: items of each class.
        rngs: the address of each episode; nothing has been drawn from them.

    Returns:
        Rows [episodes, n_way, need].
    """
    n_words = n_way * (1 + need)
    stream = b"".join(rng.first_words(n_words) for rng in rngs)
    words = np.frombuffer(stream, "<u8").reshape(len(rngs), -1)[:, :n_words]
    starts = np.array([rows.start for rows in eligible])
    counts = np.array([rows.count for rows in eligible])
    drawn, is_sure = _sample(words[:, :n_way], np.full((len(rngs), 1), len(eligible)))
    rest = words[:, n_way:].reshape(len(rngs), n_way, need)
    items, are_sure = _sample(rest, counts[drawn][:, :, None])
    rows = starts[drawn][:, :, None] + items
    for i in np.flatnonzero(~(is_sure & are_sure.all(axis=1))):  # one in 10^15
        rows[i] = _draw_one(eligible, n_way, need, rngs[int(i)])
    return rows


def _draw_one(
    eligible: Sequence[ClassRows], n_way: int, need: int, rng: CounterRng
) -> list[list[int]]:
    classes = [eligible[drawn] for drawn in rng.sample(len(eligible), n_way)]
    return [[rows.start + item for item in rng.sample(rows.count, need)] for rows in classes]


def _sample(words: npt.NDArray[np.uint64], n: Integers) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Shuffle as ``CounterRng.sample`` does, along the last axis of ``words``.

    Args:
        words: random 64-bit words, [..., k].
        n: how many integers to draw from, [..., 1]; at least k.

    Returns:
        Different integers in [0, n), [..., k]; and a bool [...], which is True if
        ``CounterRng.sample`` would certainly have refused none of the words.
    """
    k = words.shape[-1]
    bounds = (n - np.arange(k)).astype(np.uint64)
    is_sure: npt.NDArray[np.bool_] = np.all(words * bounds >= bounds, axis=-1)  # low 64 bits
    low, high = words & _LOW_32, words >> _32
    places = ((high * bounds + (low * bounds >> _32)) >> _32).astype(np.int64) + np.arange(k)
    drawn = np.empty_like(places)
    left = np.empty_like(places)  # what step t leaves at place places[t]
    for i in range(k):
        drawn[..., i] = _held(places[..., i], i, places, left)
        left[..., i] = _held(np.full_like(places[..., i], i), i, places, left)
    return drawn, is_sure


def _held(place: Integers, step: int, places: Integers, left: Integers) -> Integers:
    """Return what the shuffled list holds at ``place`` before ``step``."""
    held = place
    for t in range(step):
        held = np.where(places[..., t] == place, left[..., t], held)
    return held
