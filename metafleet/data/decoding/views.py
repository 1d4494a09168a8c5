"""Augmented views of decoded items, for encoders.

A view depends only on the item and on the number of the view. The view is therefore the same on
every machine and in every order of preparation. Random numbers are converted by arithmetic that
IEEE 754 defines exactly.
"""

import math

import numpy as np

from metafleet.data.decoding.base import Array
from metafleet.seeds import CounterRng

_LEAST_AREA = 0.5
_LEAST_ASPECT = 0.75
_ATTEMPTS = 10
_SPEEDS = (0.9, 1.1)
_VOLUMES = (0.5, 1.5)
_MOST_NOISE = 0.05
_MOST_SHIFT = 0.1


def view_rng(digest: bytes, number: int) -> CounterRng:
    """Return the random numbers of one view of an item.

    Args:
        digest: digest of the decoded item, at least 16 bytes.
        number: number of the view, >= 1. View 0 is the item itself.
    """
    seed, index = (int.from_bytes(digest[start : start + 8], "little") for start in (0, 8))
    return CounterRng(seed, "view", number, index)


def crop_view(pixels: Array, rng: CounterRng, *, flip: bool, resample: str) -> Array:
    """Crop a random rectangle, resize it to the original size, and mirror half of the views.

    The rectangle has 50 to 100 % of the area, and sides with a ratio of 3/4 to 4/3. The method is
    ``RandomResizedCrop`` of torchvision with a larger minimum area than its default of 8 %. The
    area is larger because an episode needs pictures whose class can still be recognised.

    Args:
        pixels: uint8 [..., height, width]. All planes are cropped alike.
        rng: random numbers of the view.
        flip: whether half of the views are mirrored, at random.
        resample: method for resizing: "bilinear", "bicubic" or "lanczos".
    """
    from PIL import Image  # noqa: PLC0415 - optional

    height, width = pixels.shape[-2:]
    top, left, n_rows, n_columns = _rectangle(height, width, rng)
    cropped = pixels[..., top : top + n_rows, left : left + n_columns]
    if flip and rng.integer(2):
        cropped = cropped[..., ::-1]
    planes = [
        Image.fromarray(np.ascontiguousarray(plane)).resize(
            (width, height), Image.Resampling[resample.upper()]
        )
        for plane in cropped.reshape(-1, n_rows, n_columns)
    ]
    return np.stack([np.asarray(plane) for plane in planes]).reshape(pixels.shape)


def _rectangle(height: int, width: int, rng: CounterRng) -> tuple[int, int, int, int]:
    """Draw top, left, height and width; the whole picture if no attempt fits."""
    for _ in range(_ATTEMPTS):
        area = height * width * _between(_LEAST_AREA, 1.0, rng)
        aspect = _between(_LEAST_ASPECT, 1.0, rng)
        sides = (round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect)))
        n_rows, n_columns = sides[:: 1 if rng.integer(2) else -1]
        if 0 < n_rows <= height and 0 < n_columns <= width:
            top, left = rng.integer(height - n_rows + 1), rng.integer(width - n_columns + 1)
            return top, left, n_rows, n_columns
    return 0, 0, height, width


def wave_view(wave: Array, rng: CounterRng) -> Array:
    """Change the speed, volume and position of a sound, and add white noise.

    The speed, and with it the pitch, changes by at most 10 %, as in Ko et al. 2015, "Audio
    augmentation for speech recognition". The volume is multiplied by 0.5 to 1.5. The root mean
    square of the noise is at most 5 % of the root mean square of the sound. The sound moves by at
    most 10 % of the wave's length. Silence before and after the sound stays silent, because
    encoders ignore it.

    Args:
        wave: float32 [samples] in [-1, 1].
        rng: random numbers of the view.
    """
    there = np.flatnonzero(wave)
    if len(there) == 0:
        return wave.copy()
    start, end = int(there[0]), int(there[-1]) + 1
    speed, volume = _between(*_SPEEDS, rng), _between(*_VOLUMES, rng)
    noise, shift = _MOST_NOISE * rng.uniform(), _between(-_MOST_SHIFT, _MOST_SHIFT, rng)
    sound = wave[start:end].astype(np.float64)
    n = max(1, int(len(sound) / speed))
    sound = volume * np.interp(np.arange(n) * speed, np.arange(len(sound)), sound)
    white = math.sqrt(3.0) * (2.0 * np.array(rng.uniforms(n)) - 1.0)
    sound += noise * math.sqrt(np.mean(sound**2)) * white
    room = len(wave) - n
    place = min(max(start + int(shift * len(wave)), min(0, room)), max(0, room))
    found = np.zeros_like(wave)
    kept = sound[max(0, -place) :][: len(wave) - max(0, place)]
    found[max(0, place) :][: len(kept)] = np.clip(kept, -1.0, 1.0)
    return found


def _between(low: float, high: float, rng: CounterRng) -> float:
    return low + (high - low) * rng.uniform()
