"""Time series of one or several channels, fitted to the same length: float32 [length, channels].

Three kinds of files are read. A csv has a row per time step, a column per channel and optionally a
header. An npy or npz has an array [time] or [time, channels]. A ts file of sktime has one case.
"""

import contextlib
import io
import itertools
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from metafleet.data.decoding.base import Array, Decoder, Readable
from metafleet.data.decoding.drawing import PAPER, SMOOTH, TILE, blend, spread, tile_size
from metafleet.data.decoding.npy import MAGIC, read_npy
from metafleet.data.decoding.shown import Shown, curves_svg
from metafleet.encoders.choice import EncoderChoice
from metafleet.errors import DecodeError
from metafleet.options import require

if TYPE_CHECKING:
    from PIL.Image import Image

    from metafleet.data.decoding.drawing import Fonts

MAX_SOURCE_BYTES = 1 << 28
MAX_LENGTH = 1 << 16
MAX_CHANNELS = 1 << 12
_LOOKED_AT = 16  # series, to find the number of channels
_MAX_CURVES = 8  # on a tile
_STILL = 1e-9  # a channel is constant if it varies by a smaller share of its values
_ZIP = b"PK"
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)
_MEMBER = "series.npy"
_GAPS = ("", "?", "-", "na", "n/a", "null", "none")
"""Texts that programs write for a missing value. A row of these is not a header."""
_LABELS = ("@classlabel", "@targetlabel")
_FLOAT32 = float(np.finfo(np.float32).max)
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SeriesOptions(EncoderChoice):
    """Options of ``SeriesDecoder``.

    Attributes:
        length: number of time steps kept, 2 to 65536.
        channels: values per time step, 1 to 4096; by default, the most common number among the
            first 16 series.
        mode: "resample" stretches or squeezes the whole series to ``length``. "pad" keeps the
            beginning of the series, and adds zeros to a shorter one.
        scale: "standardise" gives each channel of each series mean 0 and variance 1 before padding,
            and sets constant channels to 0; "none" keeps the values.
    """

    length: int = 128
    channels: int = 1
    mode: Literal["resample", "pad"] = "resample"
    scale: Literal["standardise", "none"] = "standardise"

    def __post_init__(self) -> None:
        self.check_encoder()
        require(2 <= self.length <= MAX_LENGTH, "length", self.length, f"2 to {MAX_LENGTH}")
        is_count = 1 <= self.channels <= MAX_CHANNELS
        require(is_count, "channels", self.channels, f"1 to {MAX_CHANNELS}")


class SeriesDecoder(Decoder):
    """Reads one series."""

    kind = "series"
    version = 1
    suffixes = frozenset((".csv", ".npy", ".npz", ".ts"))
    Options = SeriesOptions
    default_encoder = "conv1d"
    problem = "a series with gaps, of another number of channels, empty or damaged"
    n_squares = 2

    def claims(self, part: Readable) -> bool:
        """Return whether a csv has several lines, or an npy is not a drawing of x, y and pen."""
        source = part.read()
        if PurePosixPath(part.name).suffix.lower() == ".csv":
            text = source.strip()
            return b"\n" in text and not text.startswith(b"[")  # "[": a row as a JSON list
        values = read_npy(source)
        is_pen = values.ndim == 2 and values.shape[1] == 3 and np.isin(values[:, 2], (0, 1)).all()
        return not is_pen

    def measured(
        self, options: SeriesOptions, given: Mapping[str, Any], parts: Iterable[Readable]
    ) -> tuple[SeriesOptions, Mapping[str, Any]]:
        """Set ``channels`` to the most common number among the first series unless it is given."""
        if "channels" in given:
            return options, {}
        found: Counter[int] = Counter()
        for part in itertools.islice(parts, _LOOKED_AT):
            with contextlib.suppress(DecodeError):  # decoding will report what is wrong
                found[_read(part.read()).shape[1]] += 1
        channels = max(found, key=found.__getitem__, default=options.channels)
        return replace(options, channels=min(channels, MAX_CHANNELS)), {}

    def sizes(self, shape: tuple[int, ...]) -> Mapping[str, Any]:
        """Return ``length`` and ``channels``."""
        return {"length": shape[0], "channels": shape[1]}

    def example(self, options: SeriesOptions) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return float32 [length, channels]."""
        return np.dtype(np.float32), (options.length, options.channels)

    def decode(self, source: bytes, options: SeriesOptions) -> Array:
        """Read a series, scale it and fit it to the length."""
        values = _read(source)
        if values.shape[1] != options.channels:
            raise DecodeError(
                f"the series has {values.shape[1]} channels; expected {options.channels}"
            )
        if options.scale == "standardise":
            values = standardise(values)
        fit = resample if options.mode == "resample" else pad
        return fit(values, options.length).astype(np.float32)

    def draw(self, item: Array, fonts: "Fonts") -> "Image":
        """Draw a curve for each of the first channels, from blue for the first to red."""
        from PIL import Image, ImageDraw  # noqa: PLC0415 - only the sheet needs it

        size = tile_size(self.n_squares)
        tile = Image.new("RGB", (size[0] * SMOOTH, size[1] * SMOOTH), PAPER)
        draw = ImageDraw.Draw(tile)
        curves = spread(item[:, :_MAX_CURVES].astype(np.float64))
        times = np.linspace(0, tile.width - 1, len(curves))
        heights = (1 - curves) * (TILE - 8) * SMOOTH + 4 * SMOOTH
        last = max(1, curves.shape[1] - 1)
        for channel in range(curves.shape[1]):
            points = list(zip(times.tolist(), heights[:, channel].tolist(), strict=True))
            draw.line(points, fill=blend(channel / last), width=round(1.2 * SMOOTH))
        return tile.resize(size, Image.Resampling.LANCZOS)

    def show(self, item: Array, options: Mapping[str, Any], fonts: "Fonts") -> Shown:
        """Return a curve for each of the first channels."""
        return Shown(drawing=curves_svg(item[:, :_MAX_CURVES]))


def standardise(values: Values) -> Values:
    """Give each channel of [time, channels] mean 0 and variance 1; constant channels become 0."""
    moved = values - values.mean(axis=0)
    deviation = values.std(axis=0)
    is_still = deviation <= _STILL * np.abs(values).max(axis=0)
    return np.where(is_still, 0.0, moved / np.where(is_still, 1.0, deviation))


def resample(values: Values, length: int) -> Values:
    """Fit [time, channels] to a length: average a longer series, interpolate a shorter one.

    A longer series is averaged over intervals of equal length, because picking single values would
    alias high frequencies to low ones.
    """
    n = len(values)
    if n == length:
        return values
    if n < length:
        at, known = np.linspace(0, n - 1, length), np.arange(n)
        columns = [np.interp(at, known, column) for column in values.T]
    else:
        at, known = np.linspace(0, n, length + 1), np.arange(n + 1)
        sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
        columns = [np.diff(np.interp(at, known, column)) * (length / n) for column in sums.T]
    return np.stack(columns, axis=1)


def pad(values: Values, length: int) -> Values:
    """Keep the beginning of [time, channels], padded with zeros to ``length``."""
    padded = np.zeros((length, values.shape[1]))
    padded[: len(values)] = values[:length]
    return padded


def _read(source: bytes) -> Values:
    """Return the series [time, channels]; all values are finite."""
    if len(source) > MAX_SOURCE_BYTES:
        raise DecodeError(
            f"the series has {len(source)} bytes; expected at most {MAX_SOURCE_BYTES}"
        )
    if source.startswith(MAGIC):
        values = _of_array(read_npy(source))
    elif source.startswith(_ZIP):
        values = _of_array(read_npy(_member(source)))
    else:
        values = _read_text(source)
    bad = np.argwhere(~(np.abs(values) <= _FLOAT32))  # NaN fails every comparison
    if len(bad):
        time, channel = bad[0].tolist()
        raise DecodeError(
            f"channel {channel} at time {time} is {values[time, channel]:g}; expected a finite "
            "float32: fill gaps, or leave the series out"
        )
    return values


def _of_array(array: Array) -> Values:
    values = array[:, None] if array.ndim == 1 else array
    if values.ndim != 2 or 0 in values.shape:
        raise DecodeError(
            f"the series is an array {list(array.shape)}; expected [time] or [time, channels]"
        )
    return values.astype(np.float64)


def _member(source: bytes) -> bytes:
    """Return the npy in an npz: the only one, or the one named ``series``."""
    try:
        with zipfile.ZipFile(io.BytesIO(source)) as archive:
            names = archive.namelist()
            name = _MEMBER if _MEMBER in names else names[0] if len(names) == 1 else ""
            if not name:
                raise DecodeError(
                    f"the npz has {len(names)} arrays; expected one, or one called 'series'"
                )
            with archive.open(name) as member:
                content = member.read(MAX_SOURCE_BYTES + 1)
    except _ZIP_ERRORS as error:
        raise DecodeError(f"the npz cannot be read: {error}") from error
    if len(content) > MAX_SOURCE_BYTES:
        raise DecodeError(f"the array of the npz has more than {MAX_SOURCE_BYTES} bytes")
    return content


def _read_text(source: bytes) -> Values:
    try:
        lines = source.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DecodeError(f"the series is no csv, npy, npz or ts: {error}") from error
    lines = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if lines and lines[0].startswith("@"):
        return _read_ts(lines)
    rows = _rows(lines)
    if not rows:
        raise DecodeError("the series is empty; expected a row of numbers for each time")
    n_channels = len(rows[0])
    for time, row in enumerate(rows):
        if len(row) != n_channels:
            raise DecodeError(
                f"the row of time {time} has {len(row)} values; the first one has {n_channels}"
            )
    return np.array(
        [[_number(c, t, cell) for c, cell in enumerate(row)] for t, row in enumerate(rows)]
    )


def _rows(lines: Sequence[str]) -> list[list[str]]:
    """Split lines at commas, semicolons, tabs or spaces; drop a header, which has only words."""
    split = next((mark for mark in (",", ";", "\t") if lines and mark in lines[0]), None)
    rows = [[cell.strip() for cell in line.split(split)] for line in lines]
    is_header = bool(rows) and not any(_is_number(c) or c.lower() in _GAPS for c in rows[0])
    return rows[1:] if is_header else rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(channel: int, time: int, cell: str) -> float:
    if not _is_number(cell):
        raise DecodeError(f"channel {channel} at time {time} is {cell[:40]!r}; expected a number")
    return float(cell)


def _read_ts(lines: Sequence[str]) -> Values:
    """Read the only case of a ts file: channels separated by colons, then an optional class."""
    heads = [re.split(r"\s+", line.lower()) for line in lines if line.startswith("@")]
    cases = [line for line in lines if not line.startswith("@")]
    if len(cases) != 1:
        raise DecodeError(f"the ts has {len(cases)} cases; expected one: give each its own file")
    if ["@timestamps", "true"] in heads:
        raise DecodeError("the ts has time stamps; expected values at equal distances in time")
    is_labelled = any(head[0] in _LABELS and head[1:2] == ["true"] for head in heads)
    channels = cases[0].split(":")[: -1 if is_labelled else None]
    columns = [
        [_number(channel, time, cell.strip()) for time, cell in enumerate(values.split(","))]
        for channel, values in enumerate(channels)
    ]
    lengths = sorted({len(column) for column in columns})
    if len(lengths) != 1:
        raise DecodeError(f"the channels of the ts have lengths {lengths}; expected one length")
    return np.array(columns).T
