"""Clips: uint8 [frames, channels, height, width], with frames evenly spaced over the whole clip.

In a video, the chosen frames are evenly spaced in time. In an animation, the chosen frames are
evenly spaced by number, because its frames usually have equal durations.
"""

import bisect
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metafleet.data.decoding.base import Array, Decoder, Readable, import_library
from metafleet.data.decoding.drawing import GAP, PAPER, TILE, draw_picture, tile_size
from metafleet.data.decoding.raster import (
    Fit,
    Frame,
    Pixels,
    Resample,
    check_size,
    opened,
    pillow,
    to_pixels,
)
from metafleet.data.decoding.shown import Shown, picture_of, png
from metafleet.data.decoding.views import crop_view
from metafleet.data.decoding.whole import require_whole
from metafleet.encoders.choice import EncoderChoice
from metafleet.errors import DecodeError
from metafleet.options import require
from metafleet.seeds import CounterRng

if TYPE_CHECKING:
    from PIL.Image import Image

    from metafleet.data.decoding.drawing import Fonts

MAX_FRAMES = 20_000
"""Maximum number of frames of a stored clip; decoding stops there."""
MAX_FRAMES_KEPT = 256
_WHOLE_ENOUGH = 0.9  # share of the duration in the header, which is often slightly wrong
_WEBP = b"WEBP"
_MOST_SHOWN = 4
"""Number of frames that a page shows."""


@dataclass(frozen=True, slots=True)
class VideoOptions(EncoderChoice):
    """Options of ``VideoDecoder``.

    Attributes:
        frames: number of frames kept, 1 to 256. In shorter clips, frames are repeated.
        side: height and width in pixels, 1 to 1024.
        channels: 1 (grey) or 3 (red, green, blue).
        fit: how a frame becomes square. "crop" takes the middle square, "pad" adds white, and
            "stretch" resizes both sides. "center" resizes the shorter side to ``side`` /
            ``crop_share`` and crops the middle.
        crop_share: with ``fit`` "center", the share of the shorter side that is kept, in (0, 1].
        resample: method for resizing: "bilinear", "bicubic" or "lanczos".
    """

    frames: int = 8
    side: int = 32
    channels: int = 3
    fit: Fit = "crop"
    crop_share: float = 1.0
    resample: Resample = "bilinear"

    def __post_init__(self) -> None:
        self.check_encoder()
        expected = f"1 to {MAX_FRAMES_KEPT}"
        require(1 <= self.frames <= MAX_FRAMES_KEPT, "frames", self.frames, expected)
        _ = self.frame  # checks the ranges

    @property
    def frame(self) -> Frame:
        """Size and colours of each decoded frame."""
        return Frame(
            self.side,
            self.channels,
            self.fit,
            crop_share=self.crop_share,
            resample=self.resample,
        )


class VideoDecoder(Decoder):
    """Reads clips: animated GIF and WebP with Pillow, everything else with PyAV (FFmpeg).

    Like a video player, the decoder applies the camera's orientation and the edit list.
    """

    kind = "video"
    version = 2
    suffixes = frozenset(
        (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ogv", ".gif", ".webp")
    )
    Options = VideoOptions
    default_encoder = "video_conv"
    frame_kind = "image"
    problem = "a clip that is damaged, truncated, too long, or not a clip"
    is_pixels = True
    is_in_every_recipe = True
    n_squares = 2

    def check(self, options: VideoOptions) -> None:
        """Check that Pillow is installed; PyAV is checked when a clip needs it."""
        pillow()

    def claims(self, part: Readable) -> bool:
        """Return whether a GIF or WebP has more than one frame."""
        return count_frames(part.read()) > 1

    def example(self, options: VideoOptions) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return uint8 [frames, channels, side, side]."""
        return np.dtype(np.uint8), (options.frames, *options.frame.shape)

    def decode(self, source: bytes, options: VideoOptions) -> Array:
        """Decode the chosen frames of a clip."""
        require_whole(source)
        if is_animation(source):
            return _decode_animation(source, options)
        return _decode_stream(source, options)

    def check_views(self, options: VideoOptions, *, flip: bool) -> None:
        """Accept any options."""

    def view(self, item: Array, options: VideoOptions, rng: CounterRng, *, flip: bool) -> Array:
        """Crop and resize all frames alike, and perhaps mirror them."""
        return crop_view(item, rng, flip=flip, resample=options.resample)

    def draw(self, item: Array, fonts: "Fonts") -> "Image":
        """Draw the first frame and the one in the middle."""
        from PIL import Image  # noqa: PLC0415 - only the sheet needs it

        tile = Image.new("RGB", tile_size(self.n_squares), PAPER)
        tile.paste(draw_picture(item[0]), (0, 0))
        tile.paste(draw_picture(item[len(item) // 2]), (TILE + GAP, 0))
        return tile

    def show(self, item: Array, options: Mapping[str, Any], fonts: "Fonts") -> Shown:
        """Return at most ``_MOST_SHOWN`` frames, evenly spaced."""
        chosen = np.linspace(0, len(item) - 1, min(len(item), _MOST_SHOWN)).round().astype(int)
        return Shown(tuple(png(picture_of(item[index])) for index in chosen))


def is_animation(source: bytes) -> bool:
    """Return whether the bytes begin like a GIF or WebP, animated or not."""
    return source[:4] == b"GIF8" or (source[:4] == b"RIFF" and source[8:12] == _WEBP)


def count_frames(source: bytes) -> int:
    """Return the number of frames of a picture or animation; 1 for a still picture.

    Raises:
        DecodeError: the bytes are not a picture of a known format, or the picture is damaged or too
            large.
    """
    with opened(source) as image:
        return int(getattr(image, "n_frames", 1))


def _chosen(n_frames: int, n_kept: int) -> list[int]:
    """Choose ``n_kept`` frame numbers, each from the middle of an equal share of the clip."""
    return [(2 * i + 1) * n_frames // (2 * n_kept) for i in range(n_kept)]


def _gathered(frames: Iterator["Image"], wanted: Sequence[int], frame: Frame) -> Array:
    """Return the wanted frames in order, in a single pass; some may repeat."""
    kept: list[Pixels] = []
    for number, image in enumerate(frames):
        if number == wanted[len(kept)]:
            pixels = to_pixels(image, frame)
            while len(kept) < len(wanted) and wanted[len(kept)] == number:
                kept.append(pixels)
            if len(kept) == len(wanted):
                return np.stack(kept)
    raise DecodeError(f"the clip ends before frame {wanted[len(kept)]}; it may be truncated")


def _decode_animation(source: bytes, options: VideoOptions) -> Array:
    with opened(source) as image:
        n_frames = int(getattr(image, "n_frames", 1))
        if n_frames > MAX_FRAMES:
            raise DecodeError(f"the clip has {n_frames} frames; expected at most {MAX_FRAMES}")

        def frames() -> Iterator["Image"]:
            for number in range(n_frames):
                image.seek(number)
                yield image

        return _gathered(frames(), _chosen(n_frames, options.frames), options.frame)


def _decode_stream(source: bytes, options: VideoOptions) -> Array:
    av = import_library("av", package="PyAV", extra="video")
    try:
        wanted = _chosen_in_time(_read_times(av, source), options.frames)
        return _gathered(_frames_of(av, source), wanted, options.frame)
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise DecodeError(f"the clip cannot be read: {why}") from error


def _chosen_in_time(spans: Sequence[tuple[int | None, int]], n_kept: int) -> list[int]:
    """Choose frames from intervals of equal time, because some clips pause on a frame.

    Args:
        spans: start (None if unknown) and duration of each frame, in any order.
        n_kept: number of frames to choose.
    """
    known = sorted((start, length) for start, length in spans if start is not None)
    starts = [start for start, _ in known]
    if len(known) < len(spans) or len(set(starts)) < len(starts):  # times missing or unreliable
        return _chosen(len(spans), n_kept)
    first, length = starts[0], known[-1][1]
    whole = starts[-1] - first + (length or max(1, (starts[-1] - first) // len(starts)))
    places = [first + (2 * i + 1) * whole // (2 * n_kept) for i in range(n_kept)]
    return [bisect.bisect_right(starts, place) - 1 for place in places]


def _read_times(av: Any, source: bytes) -> list[tuple[int | None, int]]:
    """Return start and duration of each frame, without decoding; check that the end is there."""
    with av.open(io.BytesIO(source), mode="r") as container:
        if not container.streams.video:
            raise DecodeError("it has no video stream")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise DecodeError("its video is of an unknown codec")
        check_size(stream.codec_context.width, stream.codec_context.height)
        shown: list[tuple[int | None, int]] = []
        n_frames, end_s = 0, 0.0
        for packet in container.demux():
            if packet.size > 0 and packet.stream is stream:  # the last one is empty
                n_frames += 1
                if not packet.is_discard:  # later frames need it, but the edit list hides it
                    shown.append((packet.pts, packet.duration or 0))
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if n_frames > MAX_FRAMES:
                raise DecodeError(f"the clip has more than {MAX_FRAMES} frames; shorten it")
        promised, promised_s = stream.frames, (container.duration or 0) / av.time_base
    _check_end(n_frames, promised, end_s, promised_s)
    if not shown:
        raise DecodeError("all frames of the clip are cut away by its edit list")
    return shown


def _check_end(n_frames: int, promised: int, end_s: float, promised_s: float) -> None:
    if n_frames == 0 or n_frames < promised:
        raise DecodeError(f"the clip has {n_frames} of {promised} frames; it may be truncated")
    if end_s < _WHOLE_ENOUGH * promised_s:
        raise DecodeError(
            f"the clip ends after {end_s:.2f} of {promised_s:.2f} s; it may be truncated"
        )


def _frames_of(av: Any, source: bytes) -> Iterator["Image"]:
    with av.open(io.BytesIO(source), mode="r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # processes already share the cores
        for frame in container.decode(stream):
            check_size(frame.width, frame.height)
            yield _upright(frame)


def _upright(frame: Any) -> "Image":
    """Rotate a frame by the camera's orientation, counter-clockwise in steps of 90 degrees."""
    degrees = 90 * round(frame.rotation / 90)
    image: Image = frame.to_image()
    return image.rotate(degrees, expand=True) if degrees else image
