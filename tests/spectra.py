"""Folders of spectra, a kind of data that Metafleet does not know."""

from pathlib import Path

import numpy as np

from tests.folders import write


def make_spectra(folder: Path, classes: range, *, items: int) -> None:
    """A peak at each class's own position, with noise."""
    rng = np.random.default_rng(classes.start)
    positions = np.arange(0, 1000, 8)
    for number in classes:
        for item in range(items):
            peak = np.exp(-(((positions - 60 * number - 40) / 25) ** 2))
            rows = np.stack([positions, peak + 0.05 * rng.random(len(positions))], axis=1)
            lines = "\n".join(f"{x} {y:.4f}" for x, y in rows)
            write(folder, {f"class{number:02d}/{item}.xy": lines})
