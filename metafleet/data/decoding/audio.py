"""Sounds as log-mel spectrograms, float16 [n_mels, frames], computed once during preparation.

The power of a Hann-windowed short-time Fourier transform is summed in triangular filters of equal
width on the mel scale (2595 log10(1 + f / 700)). The log10 of each sum is taken. The limit is the
largest of these values minus 8, and smaller values are raised to the limit. The result x is mapped
to (x + 4) / 4, as in the code of Radford et al. 2022, arXiv:2212.04356, section 2.2. As a result,
the volume of a sound has little effect, and values are near [-1, 1].
"""

import functools
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from metafleet.data.decoding.base import Array, Decoder, import_library
from metafleet.data.decoding.drawing import TILE, draw_bars, spread
from metafleet.data.decoding.shown import Shown, png, wav, waveform_svg
from metafleet.data.decoding.views import wave_view
from metafleet.data.decoding.whole import require_whole
from metafleet.encoders.choice import EncoderChoice
from metafleet.errors import ConfigError, DecodeError
from metafleet.options import require
from metafleet.seeds import CounterRng

if TYPE_CHECKING:
    from PIL.Image import Image

    from metafleet.data.decoding.drawing import Fonts

MAX_DURATION_S = 60.0
_MIN_RATE_HZ, _MAX_RATE_HZ = 1_000, 192_000
_MAX_CHANNELS = 64
_FLOOR = 1e-10
_RANGE = 8.0
_FLAC = b"fLaC"
_UNKNOWN_FRAMES = 1 << 62  # what libsndfile reports for a header written to a pipe
Signal = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AudioOptions(EncoderChoice):
    """Options of ``AudioDecoder``.

    Attributes:
        sample_rate_hz: rate to which sounds are resampled, 1000 to 192000.
        duration_s: number of seconds kept from the beginning, at most 60. Shorter sounds are padded
            with silence.
        n_mels: number of bands of the spectrogram, 1 to 512.
        window_ms: length of a window.
        hop_ms: distance from the beginning of one window to the beginning of the next.
        form: "log_mel" for spectrograms, or "wave" for the samples themselves, in [-1, 1].
        place: position of a shorter sound in the padding: "start" or "centre".
    """

    sample_rate_hz: int = 16_000
    duration_s: float = 1.0
    n_mels: int = 40
    window_ms: float = 25.0
    hop_ms: float = 10.0
    form: Literal["log_mel", "wave"] = "log_mel"
    place: Literal["start", "centre"] = "start"

    def __post_init__(self) -> None:
        self.check_encoder()
        rates = f"{_MIN_RATE_HZ} to {_MAX_RATE_HZ}"
        is_rate = _MIN_RATE_HZ <= self.sample_rate_hz <= _MAX_RATE_HZ
        require(is_rate, "sample_rate_hz", self.sample_rate_hz, rates)
        is_duration = 0 < self.duration_s <= MAX_DURATION_S
        require(
            is_duration, "duration_s", self.duration_s, f"more than 0, {MAX_DURATION_S} at most"
        )
        is_window = 2 <= self.window < self.n_samples
        require(is_window, "window_ms", self.window_ms, "2 samples or more, less than duration_s")
        require(1 <= self.hop <= self.window, "hop_ms", self.hop_ms, "1 sample to window_ms")
        bands = "1 to 512, and so few that each has a frequency of its own"
        is_fine = 1 <= self.n_mels <= 512 and bool(mel_filters(self).any(axis=1).all())
        require(is_fine, "n_mels", self.n_mels, bands)

    @property
    def n_samples(self) -> int:
        """Number of samples kept."""
        return round(self.sample_rate_hz * self.duration_s)

    @property
    def window(self) -> int:
        """Samples per window."""
        return round(self.sample_rate_hz * self.window_ms / 1000)

    @property
    def hop(self) -> int:
        """Samples from one window to the next."""
        return round(self.sample_rate_hz * self.hop_ms / 1000)

    @property
    def n_fft(self) -> int:
        """Points of the Fourier transform; windows are zero-padded because low bands are narrow."""
        return 2 << math.ceil(math.log2(self.window))

    @property
    def n_frames(self) -> int:
        """Number of windows that fit into the samples kept."""
        return 1 + (self.n_samples - self.window) // self.hop


class AudioDecoder(Decoder):
    """Reads sounds with libsndfile and resamples them with soxr; channels are averaged."""

    kind = "audio"
    version = 1
    suffixes = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"))
    Options = AudioOptions
    default_encoder = "audio_conv"
    problem = "a sound that is damaged, has no samples, is too long, or is not a sound"
    is_in_every_recipe = True

    def check(self, options: AudioOptions) -> None:
        """Check that soundfile and soxr are installed."""
        _soundfile()
        _soxr()

    def example(self, options: AudioOptions) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return float16 [n_mels, frames], or float32 [samples]."""
        if options.form == "wave":
            return np.dtype(np.float32), (options.n_samples,)
        return np.dtype(np.float16), (options.n_mels, options.n_frames)

    def decode(self, source: bytes, options: AudioOptions) -> Array:
        """Read the beginning of a sound and compute its spectrogram."""
        samples, rate_hz = _read(source, options.duration_s)
        if rate_hz != options.sample_rate_hz:
            samples = _soxr().resample(samples, rate_hz, options.sample_rate_hz, quality="HQ")
        kept = np.zeros(options.n_samples, np.float32)
        samples = samples[: options.n_samples]
        start = (len(kept) - len(samples)) // 2 if options.place == "centre" else 0
        kept[start : start + len(samples)] = samples
        if options.form == "wave":
            return kept
        return log_mel(kept, options).astype(np.float16)

    def check_views(self, options: AudioOptions, *, flip: bool) -> None:
        """Require waves."""
        require(not flip, "flip", flip, "false: the views of sounds are not mirrored")
        found = options.form
        require(found == "wave", "form", found, "'wave', as the views of sounds are of waves")

    def view(self, item: Array, options: AudioOptions, rng: CounterRng, *, flip: bool) -> Array:
        """Change speed, volume and position of a sound, and add noise."""
        return wave_view(item, rng)

    def draw(self, item: Array, fonts: "Fonts") -> "Image":
        """Draw [bands, frames], loud cells dark and low frequencies at the bottom; or a wave."""
        if item.ndim == 1:
            return draw_bars(np.abs(item), self.n_squares)
        from PIL import Image  # noqa: PLC0415 - only the sheet needs it

        return _spectrogram(item).resize((TILE, TILE), Image.Resampling.BILINEAR)

    def show(self, item: Array, options: Mapping[str, Any], fonts: "Fonts") -> Shown:
        """Return a spectrogram, and for waves the waveform and the sound itself."""
        if item.ndim == 2:
            return Shown((png(_spectrogram(item)),))
        known = {key: it for key, it in options.items() if key in ("sample_rate_hz", "n_mels")}
        rate_hz = int(known.get("sample_rate_hz", AudioOptions().sample_rate_hz))
        try:
            chosen = AudioOptions(**known, duration_s=len(item) / rate_hz)
            pictures = [png(_spectrogram(log_mel(item, chosen)))]
        except ConfigError:  # too short for a window
            pictures = []
        return Shown(tuple(pictures), waveform_svg(item), sound=wav(item, rate_hz))


def _spectrogram(item: Array) -> "Image":
    """Draw [bands, frames], loud cells dark and low frequencies at the bottom."""
    from PIL import Image  # noqa: PLC0415 - optional

    grey = 255 - 255 * spread(item.astype(np.float64))
    return Image.fromarray(grey[::-1].astype(np.uint8))


def _soundfile() -> Any:
    return import_library("soundfile", package="soundfile", extra="audio")


def _soxr() -> Any:
    return import_library("soxr", package="soxr", extra="audio")


def _read(source: bytes, duration_s: float) -> tuple[Signal, int]:
    """Return at most ``duration_s`` seconds, float32 [samples], mono, and the sample rate."""
    soundfile = _soundfile()
    require_whole(source)
    try:
        with soundfile.SoundFile(io.BytesIO(source)) as sound:
            _check_header(sound.samplerate, sound.channels, sound.frames)
            wanted = min(math.ceil(duration_s * sound.samplerate), sound.frames)
            samples = sound.read(wanted, dtype="float32", always_2d=True)
            # FLAC declares samples, not bytes: check that the last one is there
            if source.startswith(_FLAC) and sound.frames < _UNKNOWN_FRAMES:
                sound.seek(sound.frames - 1)
                wanted += 1 - len(sound.read(1))
            rate_hz = sound.samplerate
    except (soundfile.SoundFileError, RuntimeError, OSError, ValueError, TypeError) as error:
        said = getattr(error, "error_string", "") or str(error)  # without "<_io.BytesIO ...>"
        why = " ".join(said.split()).rstrip(".") or type(error).__name__
        raise DecodeError(f"the sound cannot be read: {why}") from error
    if len(samples) < wanted:
        raise DecodeError(
            f"the sound ends after {len(samples)} of {wanted} samples; it may be truncated"
        )
    if not np.isfinite(samples).all():
        raise DecodeError("the sound has samples that are not finite")
    return samples.mean(axis=1), rate_hz


def _check_header(rate_hz: int, channels: int, frames: int) -> None:
    if not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:
        raise DecodeError(
            f"the sound has {rate_hz} samples a second; expected {_MIN_RATE_HZ} to {_MAX_RATE_HZ}"
        )
    if not 1 <= channels <= _MAX_CHANNELS:
        raise DecodeError(f"the sound has {channels} channels; expected 1 to {_MAX_CHANNELS}")
    if frames < 1:
        raise DecodeError("the sound has no samples: its length is zero")


def log_mel(samples: Signal, options: AudioOptions) -> npt.NDArray[np.float64]:
    """Compute the spectrogram [n_mels, frames] of samples [n_samples] in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, options.window)[:: options.hop]
    hann = np.hanning(options.window + 1)[:-1]  # periodic
    power = np.abs(np.fft.rfft(windows * hann, options.n_fft, axis=1)) ** 2  # [frames, frequencies]
    # einsum: a matrix product would run in a multi-threaded library, and processes share the cores
    bands = np.einsum("mf,tf->mt", mel_filters(options), power)
    decades = np.log10(np.maximum(bands, _FLOOR))
    scaled = (np.maximum(decades, decades.max() - _RANGE) + 4.0) / 4.0
    return np.asarray(scaled, np.float64)


@functools.lru_cache(maxsize=16)
def _filters(rate_hz: int, n_fft: int, n_mels: int) -> npt.NDArray[np.float64]:
    edges_mel = np.linspace(0.0, 2595.0 * np.log10(1.0 + rate_hz / 2 / 700.0), n_mels + 2)
    edges_hz = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    frequencies = np.arange(n_fft // 2 + 1) * (rate_hz / n_fft)
    low, peak, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising, falling = (frequencies - low) / (peak - low), (high - frequencies) / (high - peak)
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)), np.float64)


def mel_filters(options: AudioOptions) -> npt.NDArray[np.float64]:
    """Return the weight of each frequency in each band: [n_mels, n_fft / 2 + 1]."""
    return _filters(options.sample_rate_hz, options.n_fft, options.n_mels)
