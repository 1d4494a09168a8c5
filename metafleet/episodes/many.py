"""Draw the classes and items of ordinary episodes, for one episode or for many at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metafleet.episodes.items import ClassRows
from metafleet.params import Params
from metafleet.seeds import CounterRng

Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
_FEW = 6
"""Fewer episodes than this are drawn faster one by one."""
_LOW_32 = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


class ManyEpisodes(NamedTuple):
    """Several ordinary episodes of one shape. The second index of an example is its class.

    Attributes:
        support: input -> float [episodes, n_way, k_shot, ...].
        query: input -> float [episodes, n_way, n_query, ...].
    """

    support: Params
    query: Params


def prototype_scores(support: Tensor, query: Tensor) -> Tensor:
    """Return the logits of prototypes for many episodes at once, up to a constant for each query.

    For a query q and a prototype c, the usual logit is -|q - c|^2. The score is this logit plus
    |q|^2, which is 2 q·c - |c|^2. Adding |q|^2 to all logits of a query changes neither their
    softmax nor their argmax.

    Args:
        support: [episodes, n_way, k_shot, d].
        query: [episodes, n_way, n_query, d].

    Returns:
        [episodes, n_way, n_query, n_way]. The first n_way is the axis of the queries' classes, and
        the last axis is the axis of the prototypes.
    """
    # the mean of one example is this example, but torch takes long to copy it
    prototypes = support.squeeze(2) if support.shape[2] == 1 else support.mean(dim=2)
    squares = torch.linalg.vecdot(prototypes, prototypes)[:, None]
    queries = query.flatten(1, 2)
    scores = torch.baddbmm(squares, queries, prototypes.mT, beta=-1.0, alpha=2.0)
    return scores.view(*query.shape[:3], -1)


class EligibleClasses:
    """The classes that have enough items for an episode.

    Args:
        classes: all classes of a split, in the data set's order.
        need: number of items that an episode takes from each of its classes.
    """

    def __init__(self, classes: Sequence[ClassRows], need: int) -> None:
        self._classes = [rows for rows in classes if rows.count >= need]
        self._need = need
        self._starts = np.array([rows.start for rows in self._classes], np.int64)
        self._counts = np.array([rows.count for rows in self._classes], np.int64)

    def __len__(self) -> int:
        return len(self._classes)

    def draw(self, n_way: int, rng: CounterRng) -> list[list[int]]:
        """Draw different items of ``n_way`` different classes; return their rows, [n_way][need]."""
        classes = [self._classes[drawn] for drawn in rng.sample(len(self._classes), n_way)]
        return [
            [rows.start + item for item in rng.sample(rows.count, self._need)] for rows in classes
        ]

    def draw_many(self, n_way: int, rngs: Sequence[CounterRng]) -> Integers:
        """Draw many episodes. Each is the episode that ``draw`` returns for the same address.

        Each ``CounterRng`` computes the random 64-bit words of its own episode. The words of all
        episodes are then turned into draws together, which is faster than one episode at a time.

        Args:
            n_way: classes of an episode.
            rngs: the address of each episode. Nothing may have been drawn from the addresses yet.

        Returns:
            Rows [episodes, n_way, need].
        """
        if len(rngs) < _FEW:
            return np.array([self.draw(n_way, rng) for rng in rngs], np.int64)
        n_words = n_way * (1 + self._need)
        stream = b"".join([rng.first_words(n_words) for rng in rngs])
        words = np.frombuffer(stream, "<u8").reshape(len(rngs), -1)[:, :n_words].T
        of_items = words[n_way:].reshape(n_way, self._need, len(rngs)).swapaxes(0, 1)
        drawn, is_sure = _sample(words[:n_way], len(self))
        items, are_sure = _sample(of_items, self._counts[drawn])
        rows = (self._starts[drawn] + items).transpose(2, 1, 0)
        for i in np.flatnonzero(~(is_sure & are_sure.all(axis=0))):  # one in 10^15
            rows[i] = self.draw(n_way, rngs[int(i)])
        return rows


def _sample(words: Words, n: Integers | int) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Shuffle as ``CounterRng.sample`` does, along the first axis of ``words``.

    Args:
        words: random 64-bit words, [k, ...].
        n: the integers are drawn from [0, n). An array [...] or one number, at least k and less
            than 2**32.

    Returns:
        Two arrays. The first, [k, ...], has different integers in [0, n). The second, bool [...],
        is True where ``CounterRng.sample`` certainly accepts each of the words.
    """
    words = np.ascontiguousarray(words)
    steps = np.arange(len(words)).reshape(-1, *[1] * (words.ndim - 1))
    bounds = (n - steps).astype(np.uint64)
    is_sure: npt.NDArray[np.bool_] = np.all(words * bounds >= bounds, axis=0)  # low 64 bits
    products = (words >> _32) * bounds + ((words & _LOW_32) * bounds >> _32)
    places = (products >> _32).astype(np.int64) + steps
    # step i of the shuffle swaps what the list holds at places[i] and at i
    swapped = np.stack([places, np.broadcast_to(steps, places.shape)], axis=1)  # [k, 2, ...]
    held = swapped.copy()
    for step in range(1, len(words)):
        for earlier in range(step):
            was_moved = swapped[step] == places[earlier]
            np.copyto(held[step], held[earlier, 1], where=was_moved)
    return held[:, 0], is_sure
