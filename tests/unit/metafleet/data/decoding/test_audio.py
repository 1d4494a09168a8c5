"""Sounds become spectrograms."""

import numpy as np

from metafleet.data.decoding import audio
from tests.unit.metafleet.data.decoding.samples import (
    decode,
    tone,
    wav,
)

RNG = np.random.default_rng(7)


def test_a_sound_is_a_spectrogram_with_its_energy_in_the_right_band():
    options = audio.AudioOptions(sample_rate_hz=8000, duration_s=0.5)
    filters = audio.mel_filters(options)
    for hz in (300.0, 1000.0, 2500.0):
        row = decode("audio", wav(tone(hz, 0.5)), sample_rate_hz=8000, duration_s=0.5)

        centre = np.argmax(filters, axis=1) * 8000 / options.n_fft
        loudest = int(row.astype(np.float64).mean(axis=1).argmax())
        assert abs(centre[loudest] - hz) < np.diff(centre)[max(loudest - 1, 0)]


def test_the_spectrogram_is_that_of_the_definition():
    options = audio.AudioOptions(sample_rate_hz=4000, duration_s=0.1, n_mels=12)
    samples = RNG.normal(size=options.n_samples).astype(np.float32)

    n, frames = options.n_fft, []
    for start in range(0, len(samples) - options.window + 1, options.hop):
        window = np.array(
            [0.5 - 0.5 * np.cos(2 * np.pi * i / options.window) for i in range(options.window)]
        )
        part = samples[start : start + options.window].astype(np.float64) * window
        powers = [
            abs(sum(x * np.exp(-2j * np.pi * k * i / n) for i, x in enumerate(part))) ** 2
            for k in range(n // 2 + 1)
        ]
        frames.append(np.log10(np.maximum(audio.mel_filters(options) @ powers, 1e-10)))
    decades = np.array(frames).T
    expected = (np.maximum(decades, decades.max() - 8) + 4) / 4

    np.testing.assert_allclose(audio.log_mel(samples, options), expected, atol=1e-9)


def test_resampling_and_mixing_down_keep_the_sound():
    mono = wav(tone(440, 0.4))
    stereo = wav(np.stack([tone(440, 0.4, 44_100)] * 2, axis=1), 44_100, format="FLAC")
    chosen = {"sample_rate_hz": 8000, "duration_s": 0.3}

    here, there = decode("audio", mono, **chosen), decode("audio", stereo, **chosen)

    loud = here > here.max() - 0.5
    np.testing.assert_allclose(here[loud], there[loud], atol=0.05)
    assert loud.sum() > 50


def test_a_short_sound_is_followed_by_silence_and_a_long_one_is_cut():
    short = decode("audio", wav(tone(500, 0.2)), sample_rate_hz=8000, duration_s=1.0)
    long = decode("audio", wav(tone(500, 9.0)), sample_rate_hz=8000, duration_s=1.0)

    assert (short[:, -50:] == short.min()).all() and short[:, :10].max() > short.min() + 1
    assert long[:, -10:].max() > long.min() + 1
