"""The front end of the voice encoder agrees with its definition, its network with the package's."""

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import audio_utils

from metafleet.encoders import voice_embedding as voice
from metafleet.encoders.registry import get_encoder


def _speech(n_samples: int, pitch_hz: float, loudness: float = 0.1) -> Any:
    """A buzz with three formants, which the network takes for a voice."""
    time_s = np.arange(n_samples) / 16_000
    rng = np.random.default_rng(int(pitch_hz))
    harmonics = np.arange(1, 30)
    formants = (500, 1500, 2500)
    weights = sum(np.exp(-(((harmonics * pitch_hz - f) / 200) ** 2)) for f in formants)
    wave = (weights[:, None] * np.sin(2 * np.pi * pitch_hz * harmonics[:, None] * time_s)).sum(0)
    wave += 0.01 * rng.standard_normal(n_samples)
    return (loudness * wave / np.abs(wave).max()).astype(np.float32)


def test_bands_are_those_of_a_second_implementation() -> None:
    wave = _speech(16_000, 120.0).astype(np.float64)
    filters = audio_utils.mel_filter_bank(201, 40, 0.0, 8000.0, 16_000, "slaney", "slaney")

    theirs = audio_utils.spectrogram(
        wave,
        audio_utils.window_function(400, "hann"),
        frame_length=400,
        hop_length=160,
        power=2.0,
        center=True,
        pad_mode="constant",
        mel_filters=filters,
        mel_floor=0.0,
    )

    np.testing.assert_allclose(voice.mel_filters(), filters.T, atol=1e-8)
    np.testing.assert_allclose(voice.mel_frames(wave), theirs.T, rtol=1e-4, atol=1e-7)


def _package_function(name: str) -> Any:
    """Return a function of the package's own sources, which import what is not installed."""
    spec = find_spec("resemblyzer")
    assert spec is not None and spec.submodule_search_locations
    source = (Path(spec.submodule_search_locations[0]) / "voice_encoder.py").read_text()
    found = next(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == name
    )
    found.decorator_list = []
    scope: dict[str, Any] = {
        "np": np,
        "sampling_rate": 16_000,
        "mel_window_step": 10,
        "partials_n_frames": 160,
    }
    exec(compile(ast.Module([found], []), "resemblyzer", "exec"), scope)
    return scope[name]


def test_windows_are_those_of_the_package() -> None:
    slices = _package_function("compute_partial_slices")
    for n_samples in (400, 16_000, 25_599, 25_600, 40_000, 48_000, 100_000):
        _, theirs = slices(n_samples, 1.3, 0.75)

        found = voice.mel_windows(_speech(n_samples, 100.0).astype(np.float64))

        assert found.shape == (len(theirs), 160, 40)


def test_the_features_are_the_mean_over_windows() -> None:
    encoder: Any = get_encoder("package:resemblyzer", kind="audio")
    wave = _speech(48_000, 130.0, loudness=0.5)
    state = torch.load(voice._FILE.find("test"), map_location="cpu", weights_only=True)
    weights = state["model_state"]
    lstm, linear = torch.nn.LSTM(40, 256, 3, batch_first=True), torch.nn.Linear(256, 256)
    lstm.load_state_dict({n[5:]: v for n, v in weights.items() if n.startswith("lstm.")})
    linear.load_state_dict({n[7:]: v for n, v in weights.items() if n.startswith("linear.")})
    with torch.no_grad():
        windows = torch.from_numpy(voice.mel_windows(wave.astype(np.float64)))
        each = torch.relu(linear(lstm(windows)[1][0][-1]))
        mean = (each / each.norm(dim=1, keepdim=True)).mean(0)

    found = encoder.encode_part(wave[None])

    np.testing.assert_allclose(found[0], mean / mean.norm(), atol=1e-5)
    assert found.shape == (1, encoder.n_features(wave.shape)) == (1, 256)


def test_a_voice_is_nearer_to_itself_than_to_another() -> None:
    encoder = get_encoder("package:resemblyzer", kind="audio")
    low, again, high = (_speech(32_000, hz) for hz in (110.0, 112.0, 230.0))

    rows = encoder.encode_part(np.stack([low, again, high]))

    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.05


def test_silence_at_the_end_and_volume_change_nothing() -> None:
    encoder = get_encoder("package:resemblyzer", kind="audio")
    wave = _speech(30_000, 150.0)
    wave[-1] = 0.01

    rows = encoder.encode_part(np.stack([np.pad(wave, (0, 18_000)), np.pad(wave, (0, 18_000))]))

    np.testing.assert_allclose(rows[0], encoder.encode_part(wave[None])[0], atol=1e-6)
    quiet = encoder.encode_part((wave / 50)[None])[0]
    np.testing.assert_allclose(
        quiet, encoder.encode_part((wave / 100)[None])[0], atol=1e-4
    )  # both are raised to one volume
    assert np.isfinite(encoder.encode_part(np.zeros((1, 16_000), np.float32))).all()
