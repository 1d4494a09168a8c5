"""Regression on several families of functions, which give a multimodal task distribution.

Each episode has a function of one family. Source: Vuorio et al. 2019, arXiv:1910.13616, section
5.1; the ranges are those of the authors' code, vuoristo/MMAML-Regression,
``maml/datasets/simple_functions.py``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from metafleet.data.functions.computed import (
    ComputedData,
    Function,
    FunctionSource,
    PointSampling,
    between,
)
from metafleet.options import require
from metafleet.seeds import CounterRng

Family = Literal["sinusoid", "linear", "quadratic", "tanh", "abs"]


@dataclass(frozen=True, slots=True)
class FunctionFamiliesOptions:
    """Options of ``FUNCTION_FAMILIES``.

    Attributes:
        families: the families, each named once. Episode i of a step uses family i modulo the number
            of families. If the size of a meta-batch is a multiple of this number, all families are
            equally frequent.
        noise_std: standard deviation of normal noise on support *and* query targets, >= 0. The
            square of ``noise_std`` is a lower bound of every learner's expected squared error.
    """

    families: tuple[Family, ...] = ("sinusoid", "linear")
    noise_std: float = 0.3

    def __post_init__(self) -> None:
        found = list(self.families)
        is_set = bool(found) and len(set(found)) == len(found)
        require(is_set, "families", found, "one family or more, each once")
        require(self.noise_std >= 0, "noise_std", self.noise_std, "0 or more")


def _source(options: FunctionFamiliesOptions) -> FunctionSource:
    draws = [_DRAWS[family] for family in options.families]

    def draw(rng: CounterRng) -> Function:
        return draws[rng.index % len(draws)](rng)

    points = PointSampling(-5.0, 5.0, options.noise_std, options.noise_std)
    return FunctionSource(FUNCTION_FAMILIES.name, draw, points)


def _facts(options: FunctionFamiliesOptions) -> dict[str, str]:
    return {
        "families": ", ".join(options.families),
        "noise_std": str(options.noise_std),
        "least mean squared error": f"{options.noise_std**2:.4g}",
    }


FUNCTION_FAMILIES = ComputedData(
    name="function_families",
    title="regression of functions of several families",
    Options=FunctionFamiliesOptions,
    draws_version=1,
    make_source=_source,
    facts=_facts,
)
"""Sine waves, lines, parabolas, hyperbolic tangents and absolute values; x in [-5, 5]."""


def _sinusoid(rng: CounterRng) -> Function:
    amplitude, phase = between(0.1, 5.0, rng), between(0.0, math.pi, rng)
    return lambda x: amplitude * math.sin(x - phase)


def _linear(rng: CounterRng) -> Function:
    slope, intercept = between(-3.0, 3.0, rng), between(-3.0, 3.0, rng)
    return lambda x: slope * x + intercept


def _quadratic(rng: CounterRng) -> Function:
    bend = between(0.02, 0.15, rng) * (1 if rng.integer(2) else -1)
    centre, height = between(-3.0, 3.0, rng), between(-3.0, 3.0, rng)
    return lambda x: bend * (x - centre) ** 2 + height


def _tanh(rng: CounterRng) -> Function:
    scale, centre, height = (between(-3.0, 3.0, rng) for _ in range(3))
    return lambda x: scale * math.tanh(x - centre) + height


def _abs(rng: CounterRng) -> Function:
    slope, centre, height = (between(-3.0, 3.0, rng) for _ in range(3))
    return lambda x: slope * abs(x - centre) + height


_DRAWS: dict[Family, Callable[[CounterRng], Function]] = {
    "sinusoid": _sinusoid,
    "linear": _linear,
    "quadratic": _quadratic,
    "tanh": _tanh,
    "abs": _abs,
}
