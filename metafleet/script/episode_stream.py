"""A script's episodes, converted lazily."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from metafleet.episode import Episode
from metafleet.episodes.class_targets import check_classes
from metafleet.errors import DataError
from metafleet.purity.generators import Generators
from metafleet.script.learning import Learning
from metafleet.script.plain_episode import PlainEpisode, as_episode
from metafleet.script.runtime import Turns
from metafleet.seeds import CounterRng

PARTS = 2
"""Parts of an episode: its support set and its query set."""


def prepared(
    learning: Learning,
    episodes: Iterable[PlainEpisode],
    split: str,
    step: int,
    latest: deque[Mapping[str, Tensor]],
    turns: Turns,
) -> Iterator[Episode]:
    """Convert and yield one episode at a time, and record its inputs in ``latest``.

    Before an episode is yielded, the global generators are seeded. While the script makes the next
    episode, the generators have the state that the script left.

    Raises:
        ConfigError, DataError: an item is not an episode, or does not fit algorithm and module.
    """
    if not isinstance(episodes, Iterable):
        raise DataError(
            f"episodes are of type {type(episodes).__name__}; expected several in a list or "
            "generator, or the loss of a batch as the tensor that it is"
        )
    for index, given in enumerate(turns.each(episodes)):
        rng = CounterRng(learning.choices.seed, f"{split}/draw", step, index)
        episode = _ready(learning, given, rng, turns.generators)
        latest.extend((episode.support.inputs, episode.query.inputs))
        yield episode


def _ready(
    learning: Learning, given: PlainEpisode, rng: CounterRng, generators: Generators
) -> Episode:
    episode = as_episode(
        given, learning.like, learning.ignored_in_support, learning.loss_of_targets
    )
    bound, n_way = learning.bind(episode.support, episode.n_way)
    check_classes(episode.query, n_way, whose="query", is_ignored=learning.ignored_in_query)
    for part in (episode.support, episode.query):
        bound.binding.factory.check(part.inputs)
    # the learner gets the same seed as in a run of the orchestrator
    seed = rng.torch_seed()
    generators.seed(rng.torch_seed())
    return replace(episode, n_way=n_way, step=learning.step + 1, seed=seed)
