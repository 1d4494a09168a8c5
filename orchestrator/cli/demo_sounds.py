"""Synthetic sounds for `metafleet demo speech`. The sounds resemble words.

A sound consists of harmonics of a pitch. Formants are resonance frequencies, which glide from those
of one vowel to those of another. The formants determine how loud each harmonic is. The formants of
the vowels are from the table for men in Peterson and Barney 1952, doi:10.1121/1.1906875. Each voice
has its own pitch, and its own factor by which the formants are multiplied.
"""

import wave
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from metafleet.seeds import CounterRng

RATE_HZ: Final = 16_000
WORDS: Final = ("a-i", "i-u", "u-a", "ae-u", "er-i")
_FORMANTS_HZ: Final = {
    "a": (730, 1090, 2440),
    "i": (270, 2290, 3010),
    "u": (300, 870, 2240),
    "ae": (660, 1720, 2410),
    "er": (490, 1350, 1690),
}
_BANDWIDTHS_HZ: Final = (80.0, 100.0, 140.0)
_LOW_HZ, _HIGH_HZ = (100.0, 140.0), (180.0, 230.0)
"""Pitches of the voices in the two folders."""


def write_sounds(folder: Path, *, n_known: int, n_asked: int) -> tuple[Path, Path]:
    """Write sounds of two sets of voices to two folders, each with a subfolder for each word.

    Args:
        folder: parent of the two folders; created if it does not exist.
        n_known: number of sounds of each word by low voices, written to ``folder``/known.
        n_asked: number of sounds of each word by high voices, written to ``folder``/asked.

    Returns:
        The folder of the low voices, and the folder of the high voices.

    Raises:
        OSError: a file cannot be written.
    """
    known, asked = folder / "known", folder / "asked"
    sets = ((known, n_known, _LOW_HZ), (asked, n_asked, _HIGH_HZ))
    for which, (place, n, pitches) in enumerate(sets):
        for word in WORDS:
            (place / word).mkdir(parents=True, exist_ok=True)
            for number in range(n):
                drawn = CounterRng(which, "demo speech", WORDS.index(word), number)
                rng = np.random.default_rng(drawn.torch_seed())
                _write(place / word / f"{number}.wav", _sound(word, pitches, rng))
    return known, asked


def _sound(word: str, pitches: tuple[float, float], rng: np.random.Generator) -> Any:
    """Return the samples, in [-1, 1], of one word in one voice."""
    n = int(RATE_HZ * rng.uniform(0.45, 0.65))
    time = np.linspace(0.0, 1.0, n)
    first, last = (np.array(_FORMANTS_HZ[vowel]) for vowel in word.split("-"))
    glide = 1.0 / (1.0 + np.exp(-12.0 * (time - rng.uniform(0.4, 0.6))))
    pitch = rng.uniform(*pitches)
    # a vocal tract that is shorter has a higher voice and higher formants
    scale = rng.uniform(0.95, 1.05) * (pitch / 120.0) ** 0.2
    formants = scale * (first[:, None] * (1.0 - glide) + last[:, None] * glide)
    phase = 2.0 * np.pi * np.cumsum(pitch * (1.0 - 0.15 * time)) / RATE_HZ
    sound = np.zeros(n)
    for harmonic in range(1, int(4000.0 / pitch)):
        frequency = harmonic * pitch
        gains = [
            1.0 / (1.0 + ((frequency - centre) / width) ** 2)
            for centre, width in zip(formants, _BANDWIDTHS_HZ, strict=True)
        ]
        sound += np.sum(gains, axis=0) * np.sin(harmonic * phase) / harmonic**0.5
    sound *= np.minimum(1.0, 12.0 * np.minimum(time, 1.0 - time))  # starts and ends softly
    sound = 0.5 * sound / np.abs(sound).max()
    noisy: npt.NDArray[Any] = sound + rng.normal(0.0, 0.003, n)
    return noisy.clip(-1.0, 1.0)


def _write(path: Path, sound: Any) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((32767 * sound).astype("<i2").tobytes())
