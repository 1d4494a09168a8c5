"""A folder of things as pictures, sounds and texts; not a built-in data set.

A class is a colour and a stripe's direction in a noisy picture, a pitch in a noisy sound, and a few
words that its sentences prefer.
"""

import colorsys
import math
import random
import wave
from pathlib import Path

import numpy as np
from PIL import Image

RATE_HZ = 8000
_WORDS = [
    "amber",
    "brook",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "glade",
    "heron",
    "inlet",
    "jetty",
    "knoll",
    "larch",
]


def make_classes(folder: Path, classes: range, *, n_items: int, seed: int) -> None:
    """Write <folder>/<class>/<item>.{png,wav,txt}; every third item lacks its sound.

    Args:
        folder: is made.
        classes: numbers of the classes, 0 to 23.
        n_items: of each class.
        seed: of the noise.
    """
    for number in classes:
        place = folder / f"thing{number:02d}"
        place.mkdir(parents=True)
        for item in range(n_items):
            rng = random.Random(f"{seed}/{number}/{item}")
            stem = place / f"{item:03d}"
            _picture(number, rng).save(stem.with_suffix(".png"))
            stem.with_suffix(".txt").write_text(_sentence(number, rng))
            if item % 3 != 2:
                _write_sound(stem.with_suffix(".wav"), number, rng)


def _picture(number: int, rng: random.Random) -> Image.Image:
    colour = 255 * np.array(colorsys.hsv_to_rgb(number / 24, 0.9, 0.9))
    angle = math.pi * (number % 4) / 4
    y, x = np.mgrid[0:32, 0:32]
    stripes = np.sin((x * math.cos(angle) + y * math.sin(angle)) / 2 + rng.uniform(0, 6)) > 0
    pixels = stripes[:, :, None] * colour
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 25, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def _sentence(number: int, rng: random.Random) -> str:
    own = [_WORDS[number % 12], _WORDS[(number * 5 + 3) % 12]]
    return " ".join([*own, *rng.choices(_WORDS, k=2), *own])


def _write_sound(path: Path, number: int, rng: random.Random) -> None:
    t = np.arange(RATE_HZ // 2) / RATE_HZ
    pitch_hz = 200.0 * 2.0 ** (number / 6)
    wave_form = np.sin(2 * math.pi * pitch_hz * t + rng.uniform(0, 6))
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 0.3, len(t))
    samples = (8000 * (wave_form + noise)).clip(-32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.tobytes())
