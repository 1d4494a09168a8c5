"""Regression of sine waves: y = amplitude * sin(x - phase).

Source: Finn et al. 2017, arXiv:1703.03400, section 5.1.
"""

import math
from dataclasses import dataclass

from metafleet.data.functions.computed import (
    ComputedData,
    Function,
    FunctionSource,
    PointSampling,
    between,
)
from metafleet.options import require
from metafleet.seeds import CounterRng


@dataclass(frozen=True, slots=True)
class SinusoidOptions:
    """Options of ``SINUSOID``.

    Attributes:
        amplitude_min, amplitude_max: range of the uniform distribution of the amplitude; 0 < min <=
            max.
        phase_max: upper bound of the phase in radians, >= 0; the phase is uniform in [0,
            phase_max].
        x_min, x_max: range of the uniform distribution of inputs; min < max.
        noise_std: standard deviation of normal noise on support targets, >= 0. Query targets are
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


def _source(options: SinusoidOptions) -> FunctionSource:
    def draw(rng: CounterRng) -> Function:
        amplitude = between(options.amplitude_min, options.amplitude_max, rng)
        phase = options.phase_max * rng.uniform()
        return lambda x: amplitude * math.sin(x - phase)

    points = PointSampling(options.x_min, options.x_max, options.noise_std, query_noise_std=0.0)
    return FunctionSource(SINUSOID.name, draw, points)


SINUSOID = ComputedData(
    name="sinusoid",
    title="regression of sine waves from a few points",
    Options=SinusoidOptions,
    draws_version=1,
    make_source=_source,
)
"""Sine waves of one frequency; an episode draws the amplitude, then the phase."""
