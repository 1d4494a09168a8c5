"""Sinusoids to regress: y = amplitude * sin(x - phase), computed, never stored.

Source: Finn et al. 2017, arXiv:1703.03400, section 5.1.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from metafleet.data.summary import DataSummary, ModalitySummary, Progress
from metafleet.episode import SPLITS, Episode, EpisodeShape, ExampleSet
from metafleet.errors import ConfigError
from metafleet.options import require
from metafleet.sampling import check_counts
from metafleet.seeds import CounterRng

MODALITY = "x"
_DRAWS_VERSION = 1


@dataclass(frozen=True, slots=True)
class SinusoidOptions:
    """Options of ``Sinusoid``.

    Attributes:
        amplitude_min, amplitude_max: the amplitude is uniform in between; 0 < min <= max.
        phase_max: the phase is uniform in [0, phase_max] radians, >= 0.
        x_min, x_max: inputs are uniform in between; min < max.
        noise_std: standard deviation of normal noise on support targets, >= 0; query targets stay
            exact.
    """

    amplitude_min: float = 0.1
    amplitude_max: float = 5.0
    phase_max: float = math.pi
    x_min: float = -5.0
    x_max: float = 5.0
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        require(self.amplitude_min > 0, "amplitude_min", self.amplitude_min, "more than 0")
        above = f"amplitude_min={self.amplitude_min} or more"
        require(
            self.amplitude_max >= self.amplitude_min, "amplitude_max", self.amplitude_max, above
        )
        require(self.phase_max >= 0, "phase_max", self.phase_max, "0 or more")
        require(self.x_max > self.x_min, "x_max", self.x_max, f"more than x_min={self.x_min}")
        require(self.noise_std >= 0, "noise_std", self.noise_std, "0 or more")


class SinusoidSource:
    """Draws amplitude, phase, then x of each support point, its noise, then x of each query point.

    Splits have the same distribution and differ by the domain of ``rng`` only.
    """

    def __init__(self, options: SinusoidOptions) -> None:
        self._options = options

    @property
    def modalities(self) -> Mapping[str, tuple[int, ...]]:
        """Return the one modality, x."""
        return {MODALITY: (1,)}

    @property
    def target_dim(self) -> int:
        """Return 1: y."""
        return 1

    def n_classes(self, split: str) -> int:
        """Return 0: regression has no classes."""
        _check_split(split)
        return 0

    def check(self, split: str, shape: EpisodeShape) -> None:
        """Refuse classes, and empty sets."""
        _check_split(split)
        check_counts(shape)
        if shape.n_way != 0:
            raise ConfigError(
                f"n_way={shape.n_way} but data set 'sinusoid' is regression; set n_way=0"
            )

    def sample(self, split: str, shape: EpisodeShape, rng: CounterRng) -> Episode:
        """Draw the episode that ``rng`` addresses; x and y are float32 [n, 1]."""
        self.check(split, shape)
        options = self._options
        amplitude = _between(options.amplitude_min, options.amplitude_max, rng)
        phase = options.phase_max * rng.uniform()
        support = self._points(shape.k_shot, amplitude, phase, rng, noise_std=options.noise_std)
        query = self._points(shape.n_query, amplitude, phase, rng, noise_std=0.0)
        return Episode(support, query, n_way=0)

    def _points(
        self, n_points: int, amplitude: float, phase: float, rng: CounterRng, *, noise_std: float
    ) -> ExampleSet:
        xs, ys = [], []
        for _ in range(n_points):
            x = _between(self._options.x_min, self._options.x_max, rng)
            noise = noise_std * rng.normal() if noise_std > 0 else 0.0
            xs.append([x])
            ys.append([amplitude * math.sin(x - phase) + noise])
        return ExampleSet({MODALITY: torch.tensor(xs)}, torch.tensor(ys))


class Sinusoid:
    """The data set: nothing to download, nothing to prepare."""

    name = "sinusoid"
    title = "regression of sine waves from a few points"
    licence = "none needed: computed"
    origin = "computed on the fly"
    Options = SinusoidOptions

    def check_origin(self, options: SinusoidOptions) -> None:
        """Return at once: no option names a place."""

    def is_ready(self, options: SinusoidOptions, data_dir: Path) -> bool:
        """Return True."""
        return True

    def prepare(
        self, options: SinusoidOptions, data_dir: Path, progress: Progress | None = None
    ) -> None:
        """Do nothing."""

    def open_classes(
        self, options: SinusoidOptions, data_dir: Path, progress: Progress | None = None
    ) -> None:
        """Return None: regression has no classes."""

    def open_source(self, options: SinusoidOptions, data_dir: Path) -> SinusoidSource:
        """Make the source."""
        return SinusoidSource(options)

    def digest(self, options: SinusoidOptions, data_dir: Path) -> str:
        """Hash the options and the version of the order of draws."""
        facts: dict[str, Any] = {"sinusoid": _DRAWS_VERSION, **asdict(options)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def summarise(self, options: SinusoidOptions, data_dir: Path) -> DataSummary:
        """Describe the distribution."""
        return DataSummary(
            name=self.name,
            digest=self.digest(options, data_dir),
            split_sha256="",
            location=None,
            licence=self.licence,
            origin=self.origin,
            splits={},
            modalities={MODALITY: ModalitySummary((1,), 0)},
            facts={option: str(value) for option, value in asdict(options).items()},
        )


def _between(low: float, high: float, rng: CounterRng) -> float:
    return low + (high - low) * rng.uniform()


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ConfigError(
            f"data set 'sinusoid' has no split {split!r}; its splits are: {', '.join(SPLITS)}"
        )
