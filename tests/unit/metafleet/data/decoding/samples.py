"""Small files of every kind, made in memory, and what they become."""

import io
import struct
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import soundfile
from PIL import Image

from metafleet.data.decoding.registry import DECODERS


def png(pixels: np.ndarray, **options) -> bytes:
    return picture(Image.fromarray(pixels), "PNG", **options)


def picture(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def animation(frames: list[np.ndarray], format: str) -> bytes:
    first, *rest = [Image.fromarray(frame) for frame in frames]
    options = {"save_all": True, "append_images": rest, "duration": 100}
    return picture(first, format, **options | ({"lossless": True} if format == "WEBP" else {}))


def wav(samples: np.ndarray, rate_hz: int = 8000, **options) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, **{"format": "WAV"} | options)
    return buffer.getvalue()


def tone(hz: float, seconds: float, rate_hz: int = 8000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def clip(
    frames: list[np.ndarray],
    format: str = "mp4",
    codec: str = "mpeg4",
    times: Sequence[int] | None = None,
) -> bytes:
    """A clip of ten frames a second, or of frames that are shown at these tenths of a second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame, time in zip(frames, times or range(len(frames)), strict=True):
            image = av.VideoFrame.from_ndarray(frame, format="rgb24")
            image.pts, image.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def patched(source: bytes, box: bytes, place: int, form: str, *values: int) -> bytes:
    """Overwrite numbers of an MP4's box, so many bytes after its name begins."""
    start = source.index(box) + place
    packed = struct.pack(form, *values)
    return source[:start] + packed + source[start + len(packed) :]


def display_matrix(a: int, b: int, c: int, d: int) -> tuple[int, ...]:
    """A turn about the origin, as MP4 writes it."""
    return (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def decode(kind: str, source: bytes, **options):
    decoder = DECODERS[kind]
    chosen = decoder.Options(**options)
    decoder.check(chosen)
    row = decoder.decode(source, chosen)
    dtype, shape = decoder.example(chosen)
    assert row.dtype == dtype and row.shape == shape
    assert row.flags.c_contiguous
    return row
