"""Stack several episodes of one shape into tensors."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metafleet.episode import Episode, ExampleSet
from metafleet.errors import ContractError
from metafleet.learners.episodic import EpisodicLearner
from metafleet.params import Params

_TARGETS = "targets"


class Chunk(NamedTuple):
    """Episodes of one outer step, stacked along a new first dimension [episodes, ...].

    Attributes:
        support, query: inputs by modality, and targets.
        drawn: the learner's random draws for each episode.
    """

    support: Params
    query: Params
    drawn: Params


def chunks_of(episodes: Iterable[Episode], size: int) -> Iterator[list[Episode]]:
    """Split episodes into lists of ``size``; with ``size`` 0, make a single list.

    The last list may be shorter. A list also ends if the inputs of the next episode have other
    names or shapes, as can happen in a mixture of data sets.
    """
    rest = iter(episodes)
    while chunk := list(islice(rest, size or None)):
        for _, alike in groupby(chunk, key=_inputs_of):
            yield list(alike)


def _inputs_of(episode: Episode) -> tuple[tuple[str, torch.Size], ...]:
    parts = (episode.support.inputs, episode.query.inputs)
    return tuple((name, value.shape) for inputs in parts for name, value in inputs.items())


def stack_episodes(learner: EpisodicLearner[Any], episodes: Sequence[Episode]) -> Chunk:
    """Stack episodes, together with the learner's random draws for each.

    Raises:
        ContractError: the episodes differ in shape or outer step.
    """
    first = episodes[0]
    if any(e.n_way != first.n_way or e.step != first.step for e in episodes):
        raise ContractError("episodes of several steps or shapes; map those of one at a time")
    return Chunk(
        _stack_sets([episode.support for episode in episodes]),
        _stack_sets([episode.query for episode in episodes]),
        _stack_drawn(learner, episodes),
    )


def unpack_set(packed: Mapping[str, Tensor]) -> ExampleSet:
    """Restore the support or query set of one episode of a chunk."""
    inputs = {name: value for name, value in packed.items() if name != _TARGETS}
    return ExampleSet(inputs, packed[_TARGETS])


def targets_of(chunk: Chunk) -> Tensor:
    """Return the query targets, [episodes, n] or [episodes, n, d]."""
    return chunk.query[_TARGETS]


def _stack_sets(sets: Sequence[ExampleSet]) -> Params:
    packed = {
        name: torch.stack([examples.inputs[name] for examples in sets]) for name in sets[0].inputs
    }
    packed[_TARGETS] = torch.stack([examples.targets for examples in sets])
    return packed


def _stack_drawn(learner: EpisodicLearner[Any], episodes: Sequence[Episode]) -> Params:
    # this learner draws nothing; asking it would take a tenth of a small chunk's time
    if type(learner).draw is EpisodicLearner.draw:
        return {}
    drawn = [learner.drawn_for(episode) for episode in episodes]
    return {name: torch.stack([one[name] for one in drawn]) for name in drawn[0]}
