"""Data sets that are drawn and computed, never stored; and functions y = f(x) for regression."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from metafleet.data.base import DataSet
from metafleet.data.summary import DataSummary, ModalitySummary
from metafleet.digests import json_sha256
from metafleet.episode import SPLITS, Episode, EpisodeShape, ExampleSet
from metafleet.episodes.source import EpisodeSource, check_counts
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng

MODALITY = "x"
Function = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class PointSampling:
    """How the points of a function are drawn.

    Attributes:
        x_min, x_max: range of the uniform distribution of inputs.
        support_noise_std, query_noise_std: standard deviation of normal noise on the targets; 0 for
            exact targets.
    """

    x_min: float
    x_max: float
    support_noise_std: float
    query_noise_std: float


class FunctionSource(EpisodeSource):
    """Draws a function, then its support points, then its query points.

    For each point, x is drawn before the noise. All splits have the same distribution. Episodes of
    different splits differ only because their ``rng`` has another domain.

    Args:
        name: the data set's name, for messages.
        draw: a function that draws the function of one episode.
        points: how the points of the function are drawn.
    """

    def __init__(
        self, name: str, draw: Callable[[CounterRng], Function], points: PointSampling
    ) -> None:
        self._name, self._draw, self._points = name, draw, points

    @property
    def modalities(self) -> Mapping[str, tuple[int, ...]]:
        """Return the only modality, x."""
        return {MODALITY: (1,)}

    @property
    def target_dim(self) -> int:
        """Return 1, for y."""
        return 1

    def n_classes(self, split: str) -> int:
        """Return 0, because regression has no classes."""
        check_split(self._name, split)
        return 0

    def check(self, split: str, shape: EpisodeShape) -> None:
        """Refuse classes, and empty sets."""
        check_split(self._name, split)
        check_counts(shape)
        if shape.n_way != 0:
            raise ConfigError(
                f"n_way={shape.n_way} but data set {self._name!r} is regression; set n_way=0"
            )
        refuse_special(self._name, shape)

    def sample(self, split: str, shape: EpisodeShape, rng: CounterRng) -> Episode:
        """Draw the episode that ``rng`` addresses; x and y are float32 [n, 1]."""
        self.check(split, shape)
        function, points = self._draw(rng), self._points
        support = self._draw_points(shape.k_shot, function, rng, points.support_noise_std)
        query = self._draw_points(shape.n_query, function, rng, points.query_noise_std)
        # one tensor cut in four: creating a tensor costs more than drawing ten points
        joined = torch.tensor([*support[0], *support[1], *query[0], *query[1]]).unsqueeze(1)
        n = shape.k_shot
        x, y, query_x, query_y = joined.split_with_sizes([n, n, shape.n_query, shape.n_query])
        return Episode(ExampleSet({MODALITY: x}, y), ExampleSet({MODALITY: query_x}, query_y), 0)

    @property
    def least_mse(self) -> float:
        """Return the variance of the noise on query targets."""
        return self._points.query_noise_std**2

    def _draw_points(
        self, n_points: int, function: Function, rng: CounterRng, noise_std: float
    ) -> tuple[list[float], list[float]]:
        low, span = self._points.x_min, self._points.x_max - self._points.x_min
        if noise_std == 0.0:
            xs = [low + span * u for u in rng.uniforms(n_points)]
            return xs, [function(x) + 0.0 for x in xs]  # + 0.0 turns -0.0 into 0.0, like noise does
        xs, ys = [], []
        for _ in range(n_points):
            x = low + span * rng.uniform()
            xs.append(x)
            ys.append(function(x) + noise_std * rng.normal())
        return xs, ys


def check_split(name: str, split: str) -> None:
    """Check that a split is known.

    Raises:
        ConfigError: the split is unknown; the message names the data set and its splits.
    """
    if split not in SPLITS:
        raise ConfigError(
            f"data set {name!r} has no split {split!r}; its splits are: {', '.join(SPLITS)}"
        )


def refuse_special(name: str, shape: EpisodeShape) -> None:
    """Refuse options that hide a part of the data, because computed episodes show all of it.

    Raises:
        ConfigError: such an option is set; the message names it.
    """
    if not shape.is_ordinary:
        option, value = next(iter(shape.special().items()))
        raise ConfigError(
            f"{option}={value!r} but data set {name!r} is computed, and its episodes show all that "
            f"is drawn; remove {option}"
        )


def options_as_facts(options: Any) -> dict[str, str]:
    """Return option -> value as text, for ``data inspect``."""
    return {option: str(value) for option, value in asdict(options).items()}


@dataclass(slots=True)
class ComputedData(DataSet):
    """A data set whose episodes are computed. There is nothing to download or prepare.

    Attributes:
        name, title, Options: see ``DataSet``.
        draws_version: version of the episodes. Change it when the same options give different
            episodes.
        make_source: a function from options to the source of episodes.
        facts: a function from options to the facts that ``data inspect`` prints.
    """

    name: str
    title: str
    Options: type[Any]
    draws_version: int | str
    make_source: Callable[[Any], EpisodeSource]
    facts: Callable[[Any], Mapping[str, str]] = options_as_facts
    licence: str = "none needed: computed"
    origin: str = "computed on the fly"

    def open_source(self, options: Any, data_dir: Path) -> EpisodeSource:
        """Return the source."""
        return self.make_source(options)

    def digest(self, options: Any, data_dir: Path) -> str:
        """Return a hash of the options and ``draws_version``."""
        facts: dict[str, Any] = {self.name: self.draws_version, **asdict(options)}
        return json_sha256(facts)

    def summarise(self, options: Any, data_dir: Path) -> DataSummary:
        """Return a summary of the distribution."""
        return DataSummary(
            name=self.name,
            digest=self.digest(options, data_dir),
            licence=self.licence,
            origin=self.origin,
            splits={},
            modalities={
                name: ModalitySummary(shape, 0, "number")
                for name, shape in self.make_source(options).modalities.items()
            },
            facts=self.facts(options),
        )


def between(low: float, high: float, rng: CounterRng) -> float:
    """Draw one number uniformly from [low, high)."""
    return low + (high - low) * rng.uniform()
