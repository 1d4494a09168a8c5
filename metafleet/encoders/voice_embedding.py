"""Resemblyzer: 256 features of a voice, from a recurrent network trained to tell speakers apart.

The network is that of Wan et al. 2018, arXiv:1710.10467: three LSTM layers over 1.6 s of a mel
spectrogram. In a longer sound, 1.3 windows of 1.6 s begin per second, and the features are the mean
over the windows. Only the weights come from the package Resemblyzer. The package's speech detector
is not used. The zeros at the end of a sound are ignored.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.pooling import choose_pooling
from metafleet.encoders.runtime import device
from metafleet.encoders.waves import sound_length
from metafleet.encoders.weights import PackagedFile, version_of
from metafleet.errors import ConfigError

RATE_HZ = 16_000
_FILE = PackagedFile(
    module="resemblyzer",
    path="pretrained.pt",
    sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
    install="pip install --no-deps resemblyzer==0.1.4",
)
_N_FFT, _HOP, _N_MELS = 400, 160, 40
_FRAMES = 160
"""Frames of a window of 1.6 s."""
_STEP = round(RATE_HZ / 1.3 / _HOP)
"""Frames from one window to the next."""
_COVERAGE = 0.75
"""Share of the last window that must be sound."""
_SIZE = 256
_LOUDNESS_DB = -30.0


class VoiceEmbedding(PretrainedEncoder):
    """Encodes waves at 16 kHz."""

    name = "package:resemblyzer"
    kinds = frozenset(("audio",))
    licence = "Apache-2.0"

    def __init__(self, pooling: str = "") -> None:
        choose_pooling(self.name, pooling, ("mean",))

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return the decoder options for waves."""
        return {"sample_rate_hz": RATE_HZ, "form": "wave", "place": "start"}

    def identity(self) -> Mapping[str, Any]:
        """Return the digest of the weights, and versions of libraries."""
        _FILE.find(self.name)
        return {
            "encoder": self.name,
            "weights": {_FILE.path: _FILE.sha256},
            "pooling": "mean",
            "versions": {name: version_of(name) for name in ("torch", "numpy")},
        }

    def n_features(self, shape: tuple[int, ...]) -> int:
        """Return 256."""
        if len(shape) != 1:
            raise ConfigError(
                f"encoder {self.name!r} takes waves [samples] at {RATE_HZ} Hz; found {list(shape)}"
            )
        return _SIZE

    def encode(self, items: Array) -> Array:
        """Encode waves float32 [n, samples] in [-1, 1]."""
        rows = [self._embedding(item[: sound_length(item, _N_FFT)]) for item in items]
        return np.stack(rows).astype(np.float32)

    def _embedding(self, wave: Array) -> Array:
        windows = torch.from_numpy(mel_windows(louder(wave))).to(device())
        with torch.inference_mode():
            mean: Tensor = self._network(windows).mean(dim=0)
            return np.asarray(_unit(mean).cpu())

    @loaded_once
    def _network(self) -> "_Network":
        path = _FILE.find(self.name)
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        network = _Network()
        network.load_state_dict({n: v for n, v in state.items() if n.startswith(("lstm", "lin"))})
        return network.eval().to(device())


class _Network(nn.Module):
    """The layers. Parameters have the same names as in the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_N_MELS, _SIZE, num_layers=3, batch_first=True)
        self.linear = nn.Linear(_SIZE, _SIZE)

    def forward(self, mels: Tensor) -> Tensor:
        """Map windows [n, 160, 40] to vectors of length 1, [n, 256]."""
        _, (hidden, _) = self.lstm(mels)
        return _unit(torch.relu(self.linear(hidden[-1])))


def louder(wave: Array) -> npt.NDArray[np.float64]:
    """Raise the volume to -30 dB of full scale. A louder or silent sound does not change."""
    wave = wave.astype(np.float64)
    power = float(np.mean(wave**2))
    missing_db = _LOUDNESS_DB - 10.0 * np.log10(power) if power > 0.0 else 0.0
    return np.asarray(wave * 10.0 ** (max(missing_db, 0.0) / 20.0), np.float64)


def mel_windows(wave: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the mel spectrogram in windows, float32 [windows, 160 frames, 40 bands]."""
    n_frames = -(-(len(wave) + 1) // _HOP)
    starts = list(range(0, max(1, n_frames - _FRAMES + _STEP + 1), _STEP))
    heard = (len(wave) - starts[-1] * _HOP) / (_FRAMES * _HOP)
    if heard < _COVERAGE and len(starts) > 1:
        starts.pop()
    end = (starts[-1] + _FRAMES) * _HOP
    mels = mel_frames(np.pad(wave, (0, max(0, end - len(wave)))))
    return np.stack([mels[start : start + _FRAMES] for start in starts])


def mel_frames(wave: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the power in mel bands, float32 [1 + samples // 160, 40].

    A window of 25 ms begins every 10 ms. The centre of the first window is the beginning of the
    sound. The sound is padded with zeros on both sides.
    """
    padded = np.pad(wave, _N_FFT // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _N_FFT)[::_HOP]
    hann = np.hanning(_N_FFT + 1)[:-1]  # periodic
    power = np.abs(np.fft.rfft(windows * hann, axis=1)) ** 2
    return np.asarray(np.einsum("mf,tf->tm", mel_filters(), power), np.float32)


@functools.cache
def mel_filters() -> npt.NDArray[np.float64]:
    """Return the weight of each frequency in each band: [40, 201].

    The weights are triangles of area 1 on Slaney's scale (Auditory Toolbox, 1998). On this scale, a
    mel is 200/3 Hz wide up to 1 kHz. Above 1 kHz, each further 27 mels multiply the frequency by
    6.4.
    """
    top = 15.0 + np.log(RATE_HZ / 2 / 1000.0) / (np.log(6.4) / 27.0)
    mels = np.linspace(0.0, top, _N_MELS + 2)
    linear, bent = mels * 200.0 / 3.0, 1000.0 * np.exp(np.log(6.4) / 27.0 * (mels - 15.0))
    edges = np.where(mels < 15.0, linear, bent)
    low, peak, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    at = np.linspace(0.0, RATE_HZ / 2, 1 + _N_FFT // 2)
    triangles = np.maximum(0.0, np.minimum((at - low) / (peak - low), (high - at) / (high - peak)))
    return np.asarray(triangles * 2.0 / (high - low), np.float64)


def _unit(rows: Tensor) -> Tensor:
    lengths: Tensor = rows.norm(dim=-1, keepdim=True)
    return rows / lengths.clamp(min=1e-9)
