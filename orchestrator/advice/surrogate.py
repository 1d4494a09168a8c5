"""A Gaussian process over configurations and data sets.

It is written in NumPy, because the kernel compares nested configurations, of which each may have
keys that others lack; and because it needs no further package.
Source: Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", algorithm 2.1.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
_LENGTHS: Final = (0.5, 1.0, 2.0)
_SHARES: Final = (0.1, 0.5, 0.9)
_NOISES: Final = (0.02, 0.1, 0.3)
_LOG_FROM: Final = 20.0
"""Positive numbers whose largest is this many times the smallest are compared by logarithms."""


class Kernel(NamedTuple):
    """Parameters of the kernel.

    Attributes:
        config_length, data_length: distances over which configurations and data sets resemble each
            other.
        shared: share of the variance that an effect of the configuration on all data sets has; the
            rest is an effect on similar data sets alone.
        noise: variance of the noise; the variance of the results is 1.
    """

    config_length: float
    data_length: float
    shared: float
    noise: float


@dataclass(frozen=True, slots=True)
class Axes:
    """How values of configurations are compared.

    Attributes:
        ranges: key -> (smallest, largest, whether logarithms are compared), for numbers; for other
            keys None.
    """

    ranges: Mapping[str, tuple[float, float, bool] | None]

    @classmethod
    def of(cls, configurations: Sequence[Mapping[str, Any]]) -> "Axes":
        """Read the ranges off all configurations; keys with a single value are left out."""
        found: dict[str, tuple[float, float, bool] | None] = {}
        for key in sorted({key for values in configurations for key in values}):
            present = [values[key] for values in configurations if key in values]
            if len(present) == len(configurations) and all(v == present[0] for v in present):
                continue
            found[key] = _range(present)
        return cls(found)

    def distances(
        self, first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]
    ) -> Matrix:
        """Return the distances [n, m]: the root of the sum of squares over the keys.

        Numbers differ by at most 1; so do other values, and a key that only one of two has.
        """
        total = np.zeros((len(first), len(second)))
        for key, scale in self.ranges.items():
            total += _squares(key, scale, first, second)
        found: Matrix = np.sqrt(total)
        return found


class Surrogate:
    """A Gaussian process that was fitted to results.

    Args:
        configs: distances between the results' configurations, [n, n].
        data: distances between their data sets, [n, n].
        targets: the results, [n].
        kernel: the parameters; None to choose those of the largest marginal likelihood.
    """

    def __init__(
        self, configs: Matrix, data: Matrix, targets: Sequence[float], kernel: Kernel | None = None
    ) -> None:
        self._mean = float(np.mean(targets))
        self._spread = float(np.std(targets)) or 1.0
        scaled = (np.asarray(targets) - self._mean) / self._spread
        self.kernel = kernel or _most_likely(configs, data, scaled)
        self._factor = _factor(self.kernel, configs, data)
        self._weights = _solved(self._factor, scaled)

    def predict(self, configs: Matrix, data: Matrix) -> tuple[Matrix, Matrix]:
        """Return means [m] and standard deviations [m], without the noise of a single result.

        Args:
            configs: distances of the m configurations from the n fitted ones, [m, n].
            data: distances of their data sets, [m, n].
        """
        covariance = _covariance(self.kernel, configs, data)
        means: Matrix = self._mean + self._spread * (covariance @ self._weights)
        explained = np.square(np.linalg.solve(self._factor, covariance.T)).sum(axis=0)
        deviations: Matrix = self._spread * np.sqrt(np.maximum(1.0 - explained, 1e-9))
        return means, deviations


def _covariance(kernel: Kernel, configs: Matrix, data: Matrix) -> Matrix:
    alike = np.exp(-np.square(configs / kernel.config_length) / 2)
    near = np.exp(-np.square(data / kernel.data_length) / 2)
    near_or_shared = kernel.shared + (1 - kernel.shared) * near
    found: Matrix = np.asarray(alike * near_or_shared, dtype=np.float64)
    return found


def _factor(kernel: Kernel, configs: Matrix, data: Matrix) -> Matrix:
    covariance = _covariance(kernel, configs, data)
    covariance[np.diag_indices_from(covariance)] += kernel.noise
    found: Matrix = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    return found


def _solved(factor: Matrix, values: Matrix) -> Matrix:
    found: Matrix = np.linalg.solve(factor.T, np.linalg.solve(factor, values))
    return found


def _most_likely(configs: Matrix, data: Matrix, scaled: Matrix) -> Kernel:
    """Return the kernel of the largest marginal likelihood; of equal ones the first."""
    grid = itertools.product(_LENGTHS, _LENGTHS, _SHARES, _NOISES)
    return max(
        (Kernel(*each) for each in grid), key=lambda k: _likelihood(k, configs, data, scaled)
    )


def _likelihood(kernel: Kernel, configs: Matrix, data: Matrix, scaled: Matrix) -> float:
    factor = _factor(kernel, configs, data)
    half = np.linalg.solve(factor, scaled)
    return float(-half @ half / 2 - np.log(np.diag(factor)).sum())


def _range(values: Sequence[Any]) -> tuple[float, float, bool] | None:
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return None
    low, high = float(min(values)), float(max(values))
    return low, high, low > 0 and high / low >= _LOG_FROM


def _squares(
    key: str,
    scale: tuple[float, float, bool] | None,
    first: Sequence[Mapping[str, Any]],
    second: Sequence[Mapping[str, Any]],
) -> Matrix:
    """Return the squared differences in one key, [n, m]."""
    has_first = np.array([key in values for values in first])
    has_second = np.array([key in values for values in second])
    both = has_first[:, None] & has_second[None, :]
    found: npt.NDArray[Any]
    if scale is None or scale[0] == scale[1]:
        texts = [[repr(v.get(key)) for v in values] for values in (first, second)]
        found = (np.array(texts[0])[:, None] != np.array(texts[1])[None, :]).astype(np.float64)
    else:
        low, high, is_log = scale
        a, b = (
            np.array([_place(v.get(key, low), low, high, is_log) for v in values])
            for values in (first, second)
        )
        found = np.square(a[:, None] - b[None, :])
    one_lacks_it = has_first[:, None] != has_second[None, :]
    squares: Matrix = np.where(both, found, one_lacks_it.astype(np.float64))
    return squares


def _place(value: float, low: float, high: float, is_log: bool) -> float:
    """Return where a number lies in its range: 0 at the smallest, 1 at the largest."""
    if is_log:
        return math.log(max(value, low) / low) / math.log(high / low)
    return (value - low) / (high - low)
