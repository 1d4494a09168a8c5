"""The fixed episodes from which a data set is described."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from metafleet.episode import META_TRAIN, Episode, EpisodeShape, ExampleSet, presence_key
from metafleet.episodes.source import EpisodeSource
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng

N_EPISODES = 200
SHOTS = (1, 5)
_SEED = 0
_MOST_WAYS = 5
_QUERIES = (5, 3, 2, 1)
_POINTS = 20
_LARGE, _SIDE = 1024, 16
"""An example with more numbers than ``_LARGE`` is averaged to at most this side."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Episodes of one shape, all from meta-training: no choice may depend on unseen classes.

    Attributes:
        source: where the episodes come from.
        shape: their shape.
    """

    source: EpisodeSource
    shape: EpisodeShape

    def episodes(self, modalities: Collection[str]) -> Iterator[Episode]:
        """Yield the episodes with these modalities alone, which are the same at every call."""
        for index in range(N_EPISODES):
            rng = CounterRng(_SEED, "describe", 0, index)
            drawn = self.source.sample(META_TRAIN, self.shape, rng)
            yield Episode(
                _only(drawn.support, modalities), _only(drawn.query, modalities), drawn.n_way
            )


def find_sample(source: EpisodeSource, k_shot: int) -> Sample | str:
    """Return episodes that the source can fill: as close to 5-way as possible.

    Returns:
        The episodes; or why there are none.
    """
    if source.target_dim:
        shapes = [EpisodeShape(0, k_shot, _POINTS)]
    else:
        ways = range(_MOST_WAYS, 1, -1)
        shapes = [EpisodeShape(n_way, k_shot, n) for n_way in ways for n in _QUERIES]
    reason = ""
    for shape in shapes:
        try:
            source.check(META_TRAIN, shape)
            return Sample(source, shape)
        except ConfigError as error:
            reason = str(error)
    return f"meta_train is too small for episodes with k_shot={k_shot} ({reason})"


def small(values: Tensor) -> Tensor:
    """Average large pictures, clips and spectrograms [n, ..., h, w] to 16 rows and columns."""
    if values[0].numel() <= _LARGE or values.ndim < 3:
        return values
    height, width = values.shape[-2:]
    size = (min(height, _SIDE), min(width, _SIDE))
    flat = values.reshape(len(values), -1, height, width)
    return F.adaptive_avg_pool2d(flat, size).reshape(*values.shape[:-2], *size)


def _only(examples: ExampleSet, modalities: Collection[str]) -> ExampleSet:
    """Return the examples with some modalities, whose large values are averaged."""
    kept: Mapping[str, Tensor] = {
        name: values if name not in modalities else small(values)
        for name, values in examples.inputs.items()
        if name in modalities or name in {presence_key(m) for m in modalities}
    }
    return ExampleSet(kept, examples.targets)
