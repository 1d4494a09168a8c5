"""Spectra from files of two columns, such as those of X-ray diffraction or Raman instruments."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from metafleet.data.decoding.base import Decoder
from metafleet.data.decoding.drawing import draw_bars
from metafleet.errors import DecodeError


@dataclass(frozen=True)
class SpectrumOptions:
    """Options of ``Spectrum``.

    Attributes:
        n_points: number of intensities, 2 or more.
        low, high: range of positions, in the unit of the files.
    """

    n_points: int = 128
    low: float = 0.0
    high: float = 1000.0

    def __post_init__(self) -> None:
        if self.n_points < 2 or not self.low < self.high:
            raise ValueError(f"{self}; expected n_points of 2 or more, and low less than high")


class Spectrum(Decoder):
    """Lines of position and intensity, interpolated at equal steps and scaled to a maximum of 1."""

    kind = "spectrum"
    version = 1
    suffixes = frozenset((".xy",))
    Options = SpectrumOptions
    default_encoder = "conv1d"
    problem = "a spectrum with fewer than two points, or without intensity"
    n_squares = 2

    def example(self, options: SpectrumOptions) -> tuple[np.dtype, tuple[int, ...]]:
        """Return float32 [n_points, 1]."""
        return np.dtype(np.float32), (options.n_points, 1)

    def decode(self, source: bytes, options: SpectrumOptions) -> np.ndarray:
        """Read the lines; positions outside the file have intensity 0."""
        try:
            points = np.loadtxt(io.BytesIO(source), ndmin=2)
        except ValueError as error:
            raise DecodeError(f"the spectrum cannot be read ({error})") from error
        if points.shape[0] < 2 or points.shape[1] != 2:
            raise DecodeError(f"the spectrum is {list(points.shape)}; expected two columns")
        position, intensity = points[np.argsort(points[:, 0])].T
        grid = np.linspace(options.low, options.high, options.n_points)
        found = np.interp(grid, position, intensity, left=0.0, right=0.0)
        if not found.max() > 0:
            raise DecodeError(f"the spectrum is empty from {options.low} to {options.high}")
        return (found / found.max()).astype(np.float32)[:, None]

    def draw(self, item: np.ndarray, fonts: object) -> Image.Image:
        """Draw one bar per few points."""
        return draw_bars(item[:, 0], self.n_squares)
